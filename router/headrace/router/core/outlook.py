"""What is to be expected: how long requests take, and how long they wait.

    extent(r) = (context, R̂)
    share     = exponentially weighted mean of (time of a group) / (time of its members one by one)
    size      = exponentially weighted mean of the members of a group
    Ŵ(r)      = when a slot is free after ⌊ahead / size⌋ more batches, each of share · size · (work ahead / ahead)

So Ŵ is when the batches that run and those of the requests before r leave a slot to the batch of r, which takes some of
those before it along. What runs in a less urgent class does not count, unless r has an objective: then it has the
patience to let it end. Work is in seconds of a lane of the fastest worker; speeds are relative to it.
"""

from __future__ import annotations

from heapq import heapify, heapreplace
from math import inf

from headrace.contract.values import QueuePosition
from headrace.router.core.fleet import Fleet
from headrace.router.core.forecast import Forecast
from headrace.router.core.grouping import Group
from headrace.router.core.held import Held
from headrace.router.core.lockstep import Costs, Extent, duration_s, first_token_s
from headrace.router.core.overload import limit_s
from headrace.router.core.settings import SchedulerSettings
from headrace.router.core.waiting import WaitingList

SIZE_WEIGHT = 0.1
"""Of one group in `size`."""
SHARE_WEIGHT = 0.05
"""Of one group in `share`."""


class Outlook:
    """Forecasts by model. Written by the Scheduler and by Assigning."""

    def __init__(self, fleet: Fleet, waiting: WaitingList, settings: SchedulerSettings) -> None:
        self._fleet = fleet
        self._waiting = waiting
        self._settings = settings
        self._forecasts: dict[str, Forecast] = {}
        self._shares: dict[str, float] = {}
        self._sizes: dict[str, float] = {}

    def ended(self, held: Held, *, by_itself: bool) -> None:
        """A request completed."""
        if not (held.sampling.ignore_end or held.texts):
            self._forecast(held.model).observe(held.generated, ended=by_itself)

    def assigned(self, model: str, group: Group) -> None:
        """A group was formed."""
        seen, old = group.expected_s / group.apart_s, self._shares.get(model, 1.0)
        self._shares[model] = old + SHARE_WEIGHT * (seen - old)
        size, old = len(group.members), self._sizes.get(model, len(group.members))
        self._sizes[model] = old + SIZE_WEIGHT * (size - old)

    def share(self, model: str) -> float:
        return self._shares.get(model, 1.0)

    def output(self, held: Held) -> float:
        """R̂: tokens that it will still make; of what is to be embedded, none."""
        if held.texts:
            return 0.0
        if held.sampling.ignore_end:
            return float(held.max_tokens - held.generated)
        return self._forecast(held.model).remaining(held.generated, held.max_tokens)

    def extent(self, held: Held) -> Extent:
        return (held.context, float(held.texts) or self.output(held))

    def lone_s(self, held: Held) -> float:
        """Seconds that the fastest worker would take for it alone; 0 where nobody serves its model."""
        costs = self._fleet.fastest(held.model)
        return 0.0 if costs is None else duration_s(costs, (self.extent(held),))

    def first_s(self, held: Held) -> float | None:
        """P + s: seconds to its first token once it runs on the fastest worker; None where that is not known."""
        costs = self._fleet.fastest(held.model)
        if costs is None or not costs.known:
            return None
        return first_token_s(costs, self.extent(held))

    def patience_s(self, held: Held, costs: Costs, now: float) -> float:
        """For how long it waits for a slot to become free by itself before something less urgent is paused for it; 0
        where nothing is said about its first token: then nothing less urgent is in its way at all.
        """
        until_s = limit_s(held, self._settings.first_token_s)
        if until_s == inf or held.generated:
            return 0.0
        first_s = first_token_s(costs, self.extent(held))
        at_s = held.arrived_s + self._settings.patience * (until_s - held.arrived_s)
        return max(0.0, min(at_s, until_s - 2 * first_s) - now)

    def wait_s(self, held: Held, now: float) -> tuple[int, float]:
        """How many go before a request that waits or is about to, and Ŵ."""
        model = held.model
        ahead, work_s = self._waiting.ahead(held)
        slots: list[tuple[float, float]] = []
        for worker in self._fleet.serving(model):
            speed, busy = self._fleet.relative(worker, model), 0
            patience_s = self.patience_s(held, worker.costs_for(held), now)
            for batch in worker.batches():
                if batch.left or (batch.level > held.level and not patience_s):
                    continue
                residual_s = batch.residual_s(now)
                if batch.level > held.level:
                    if batch.paused:
                        continue
                    residual_s = min(residual_s, patience_s)
                slots.append((residual_s, speed))
                busy += 1
            slots += [(0.0, speed)] * (worker.slots - worker.leftovers - busy)
        size = self._sizes.get(model, 1.0)
        batch_s = self.share(model) * work_s * size / ahead if ahead else 0.0
        return ahead, _free_s(slots, int(ahead / size), batch_s)

    def place(self, held: Held, now: float) -> QueuePosition:
        """What the client of a waiting request is told."""
        ahead, wait_s = self.wait_s(held, now)
        if not self._fleet.slots(held.model):
            ready_at_s = self._fleet.ready_at_s(held.model)
            loading_s = None if ready_at_s is None else max(0.0, ready_at_s - now)
            return QueuePosition(ahead=ahead, estimated_wait_s=loading_s)
        if self._fleet.held_up(held.model):
            return QueuePosition(ahead=ahead, estimated_wait_s=None)
        return QueuePosition(ahead=ahead, estimated_wait_s=wait_s)

    def _forecast(self, model: str) -> Forecast:
        if (forecast := self._forecasts.get(model)) is None:
            forecast = self._forecasts[model] = Forecast()
        return forecast


def _free_s(slots: list[tuple[float, float]], batches: int, batch_s: float) -> float:
    """When a slot is free after so many batches; `slots` are (residual, speed)."""
    if not slots:
        return 0.0
    heapify(slots)
    for _ in range(batches):
        residual_s, speed = slots[0]
        heapreplace(slots, (residual_s + batch_s / speed, speed))
    return slots[0][0]
