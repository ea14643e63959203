"""Which running batch those that wait join, if any; `regrouping` has the tests that it must pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from math import inf

from headrace.contract.values import Task
from headrace.router.core.fleet import Fleet
from headrace.router.core.grouping import Group, GroupRules, form_group, goes_alone
from headrace.router.core.held import Held, Running
from headrace.router.core.lockstep import SOONEST_S, Costs, Extent, moments_s
from headrace.router.core.outlook import Outlook
from headrace.router.core.regrouping import merger
from headrace.router.core.settings import SchedulerSettings
from headrace.router.core.waiting import Line, WaitingList
from headrace.router.core.worker import Batch, Worker

LOOK_AGAIN = 0.25
"""Of what a batch still runs: after that long it is looked at again, if nothing was to be gained."""
NEAREST = 4
"""Of those that wait, how many may turn out not to join a batch before it is left alone."""
NOTHING_S = 1e-9

Rules = Callable[[Held, Worker, float], GroupRules]


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """A batch that runs, and what it goes on as."""

    batch: Batch
    running: tuple[Held, ...]
    joining: tuple[Held, ...]
    extents: tuple[Extent, ...]
    """Of both, in that order."""
    expected_s: float
    saved_s: float


class Merging:
    """Used by Assigning alone."""

    def __init__(
        self,
        fleet: Fleet,
        waiting: WaitingList,
        outlook: Outlook,
        settings: SchedulerSettings,
        rules: Rules,
    ) -> None:
        """`rules(held, worker, now)` bound the group of a request on a worker."""
        self._fleet = fleet
        self._waiting = waiting
        self._outlook = outlook
        self._settings = settings
        self._rules = rules
        self._not_before: dict[Line, tuple[float, float]] = {}
        """When a line is to be looked at again at the earliest, and when at the latest."""

    def find(self, line: Line, head: Held, now: float) -> tuple[Merge | None, float]:
        """The merger to make now for the first of a line, and when to look again if there is none (inf: when something
        else happens).
        """
        if not self._settings.max_skew or line[1] or not _may_move(head) or self._settings.merge_gain == inf:
            return None, inf
        not_before_s, wake_s = self._not_before.get(line, (now, inf))
        if not_before_s > now:
            return None, wake_s
        best: Merge | None = None
        again_s = wake_s = inf
        for batch, worker in self._candidates(head):
            merge, due_s = self._weigh(head, batch, worker, now)
            wake_s = min(wake_s, due_s or inf)
            later_s = now + max(SOONEST_S, LOOK_AGAIN * batch.residual_s(now))
            again_s = min(again_s, due_s or later_s)
            if merge is not None and (best is None or merge.saved_s > best.saved_s):
                best = merge
        self._not_before.pop(line, None)
        if best is None and again_s < inf:
            self._not_before[line] = again_s, wake_s
            if len(self._not_before) > 2 * len(self._waiting.models()):
                self._not_before = {line: (again_s, wake_s)}
        return best, wake_s

    def _candidates(self, head: Held) -> Iterator[tuple[Batch, Worker]]:
        """Those of its model and class that run, where there is a lane for what they go on as."""
        for worker in self._fleet.serving(head.model):
            if None in worker.lanes and worker.costs[head.model].known:
                for batch in worker.batches():
                    alike = batch.model == head.model and batch.members[0].kind == head.kind
                    if alike and batch.runs and not batch.apart and batch.level == head.level:
                        yield batch, worker

    def _weigh(
        self, head: Held, batch: Batch, worker: Worker, now: float
    ) -> tuple[Merge | None, float | None]:
        """The merger of one batch if it passes; else when it will, if the second test is all that it fails."""
        running = self._movable(batch, worker)
        if not running:
            return None, None
        extents = [self._outlook.extent(held) for held in running]
        group = self._joining(head, extents, worker, now)
        if group is None:
            return None, None
        costs, first = worker.costs_for(head), group.members[0]
        found = merger(costs, extents, group.extents, self._alone_s(first, worker, now, len(group.members)))
        pays = self._settings.merge_gain * found.together_s < found.apart_s
        if not pays or not self._in_time(extents, group, costs, self._rules(head, worker, now)):
            return None, None
        since_s = max(batch.started_s, batch.wasted_at_s, first.arrived_s)
        batch.wasted_s += found.waste_per_s * max(0.0, now - since_s)
        batch.wasted_at_s = now
        if (missing_s := found.price_s - batch.wasted_s) > NOTHING_S:
            in_s = missing_s / found.waste_per_s if found.waste_per_s else inf
            return None, now + max(SOONEST_S, in_s) if in_s < batch.residual_s(now) else None
        merge = Merge(
            batch=batch,
            running=tuple(running),
            joining=group.members,
            extents=(*extents, *group.extents),
            expected_s=found.together_s,
            saved_s=found.apart_s - found.together_s,
        )
        return merge, None

    def _movable(self, batch: Batch, worker: Worker) -> list[Held]:
        """The members that still run; none where they cannot move, or the batch is full."""
        if not batch.stepping:
            return []  # a prefill cannot be stopped
        running = [
            held
            for held, number in zip(batch.members, batch.assignments, strict=True)
            if isinstance(held.state, Running) and held.state.assignment == number
        ]
        if len(running) >= worker.max_batch:
            return []
        if any(held.moves >= self._settings.moves or not _may_move(held) for held in running):
            return []
        if not all(held.generated for held in running):
            return []  # its prompt is still worked in, and it would wait for its first token anew
        return running

    def _joining(self, head: Held, running: Sequence[Extent], worker: Worker, now: float) -> Group | None:
        """The first in order with its companions, where it is near enough in length; else the nearest of its class
        with theirs.
        """
        skew = self._settings.max_skew
        rules = self._rules(head, worker, now)
        shortest, longest = min(c for c, _ in running), max(c for c, _ in running)

        def fits(held: Held) -> bool:
            return max(longest, held.context) - min(shortest, held.context) <= skew

        near = self._waiting.near(head, (shortest + longest) // 2)
        for first in chain((head,), islice(near, NEAREST)):
            if fits(first) and (
                first is head or (rules.room(first.tenant) >= 0 and not rules.hopeless(first))
            ):
                companions = (held for held in self._waiting.companions(first) if fits(held))
                cap = worker.max_batch - len(running)
                return form_group(first, companions, worker.costs_for(head), replace(rules, cap=cap))
        return None

    def _alone_s(self, first: Held, worker: Worker, now: float, count: int) -> float:
        """How long `count` of those would take without the batch: in the group that they would form then."""
        companions, rules = self._waiting.companions(first), self._rules(first, worker, now)
        group = form_group(first, companions, worker.costs_for(first), rules)
        return group.expected_s * min(1.0, count / len(group.members))

    def _in_time(self, running: Sequence[Extent], group: Group, costs: Costs, rules: GroupRules) -> bool:
        """Whether all meet their objectives from here on."""
        bounds = [rules.first_token_within_s(held) for held in group.members]
        if rules.token_s == inf and min(bounds) == inf:
            return True
        moments = moments_s(costs, [*running, *group.extents])
        ours, theirs = moments[: len(running)], moments[len(running) :]
        return all(
            last <= rules.token_s * output for (_, last), (_, output) in zip(ours, running, strict=True)
        ) and all(
            first <= bound and last - first <= rules.token_s * (output - 1)
            for (first, last), (_, output), bound in zip(theirs, group.extents, bounds, strict=True)
        )


def _may_move(held: Held) -> bool:
    """Whether it goes on as if it had not been disturbed: a repetition penalty forgets what was made before. Only what
    is generated: what is embedded makes nothing step by step, and a translation is worked in again token by token.
    """
    generates = held.task is Task.GENERATE
    return generates and not goes_alone(held) and held.sampling.repetition_penalty == 1.0
