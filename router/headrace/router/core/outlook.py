"""What is to be expected: how long requests take, and how long they wait.

    extent(r) = (context, R̂)
    share     = exponentially weighted mean of (time of a group) / (time of its members one by one)
    Ŵ(r)      = the least t with  Σ over slots of speed · max(0, t - residual) ≥ share · work that goes before r

So Ŵ is when the slots, once their batches end, have done what goes before r. What runs in a less urgent class does not
count: it is paused. Work is in seconds of a lane of the fastest worker; speeds are relative to it.
"""

from __future__ import annotations

from headrace.contract.values import QueuePosition
from headrace.router.core.fleet import Fleet
from headrace.router.core.forecast import Forecast
from headrace.router.core.grouping import Group
from headrace.router.core.held import Held
from headrace.router.core.lockstep import Extent, duration_s
from headrace.router.core.waiting import WaitingList

SHARE_WEIGHT = 0.05
"""Of one group in `share`."""


class Outlook:
    """Forecasts by model. Written by the Scheduler and by Assigning."""

    def __init__(self, fleet: Fleet, waiting: WaitingList) -> None:
        self._fleet = fleet
        self._waiting = waiting
        self._forecasts: dict[str, Forecast] = {}
        self._shares: dict[str, float] = {}

    def ended(self, held: Held, *, by_itself: bool) -> None:
        """A request completed."""
        if not held.sampling.ignore_end:
            self._forecast(held.model).observe(held.generated, ended=by_itself)

    def assigned(self, model: str, group: Group) -> None:
        """A group was formed."""
        seen, old = group.expected_s / group.apart_s, self._shares.get(model, 1.0)
        self._shares[model] = old + SHARE_WEIGHT * (seen - old)

    def share(self, model: str) -> float:
        return self._shares.get(model, 1.0)

    def output(self, held: Held) -> float:
        """R̂: tokens that it will still make."""
        if held.sampling.ignore_end:
            return float(held.max_tokens - held.generated)
        return self._forecast(held.model).remaining(held.generated, held.max_tokens)

    def extent(self, held: Held) -> Extent:
        return (held.context, self.output(held))

    def lone_s(self, held: Held) -> float:
        """Seconds that the fastest worker would take for it alone; 0 where nobody serves its model."""
        costs = self._fleet.fastest(held.model)
        return 0.0 if costs is None else duration_s(costs, (self.extent(held),))

    def first_s(self, held: Held) -> float | None:
        """P + s: seconds to its first token once it runs on the fastest worker; None where that is not known."""
        costs = self._fleet.fastest(held.model)
        if costs is None or not costs.known:
            return None
        return costs.prefill(1, held.context - 1) + costs.step(1, held.context)

    def wait_s(self, held: Held, now: float) -> tuple[int, float]:
        """How many go before a request that waits or is about to, and Ŵ."""
        model = held.model
        ahead, work_s = self._waiting.ahead(held)
        slots: list[tuple[float, float]] = []
        for worker in self._fleet.serving(model):
            speed, busy = self._fleet.relative(worker, model), 0
            for batch in worker.batches():
                if batch.level <= held.level and not batch.left:
                    slots.append((batch.residual_s(now), speed))
                    busy += 1
            slots += [(0.0, speed)] * (worker.slots - busy)
        return ahead, _filled_s(sorted(slots), self.share(model) * work_s)

    def place(self, held: Held, now: float) -> QueuePosition:
        """What the client of a waiting request is told."""
        ahead, wait_s = self.wait_s(held, now)
        if not self._fleet.slots(held.model):
            return QueuePosition(ahead=ahead, estimated_wait_s=None)
        return QueuePosition(ahead=ahead, estimated_wait_s=wait_s)

    def _forecast(self, model: str) -> Forecast:
        if (forecast := self._forecasts.get(model)) is None:
            forecast = self._forecasts[model] = Forecast()
        return forecast


def _filled_s(slots: list[tuple[float, float]], work_s: float) -> float:
    """The least t with Σ speed · max(0, t - residual) ≥ work; `slots` are (residual, speed), the first free first."""
    if not slots:
        return 0.0
    at, speed, left = slots[0][0], 0.0, work_s
    for residual_s, own in slots:
        done = speed * (residual_s - at)
        if done >= left:
            break
        left -= done
        at = residual_s
        speed += own
    return at + left / speed if speed else at
