"""What runs next: which request takes a free slot, with whom, and what is paused for it.

1. The first in order takes the free slot of the fastest worker, unless that is slow and it is better off waiting
   (`placing`), with those that pay for themselves (`grouping`). A batch that is paused there goes first if it is as
   urgent.
2. Where no slot is free, a batch of a less urgent class is paused for it: the least urgent, and of these one that lets
   it end soonest, with what is left of that batch's prefill, which cannot be broken off, and the speed of its worker;
   of those about equal the one that would run longest. Pausing costs nothing but its time.
3. Failing that, a running batch of its class goes on as a larger one where that saves time (`regrouping`).
4. A slot that nobody takes goes on with what is paused there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from math import ceil, inf
from zlib import crc32

from headrace.contract.values import Priority
from headrace.router.core.commands import Assignment, Command, Pause, Regrouped, Resume, Start
from headrace.router.core.fairness import Fairness
from headrace.router.core.fleet import Fleet
from headrace.router.core.grouping import GroupRules, form_group, goes_apart
from headrace.router.core.held import Held
from headrace.router.core.lives import Lives
from headrace.router.core.lockstep import Extent, duration_s, first_token_s
from headrace.router.core.merging import Merging
from headrace.router.core.outlook import Outlook
from headrace.router.core.overload import limit_s, may_refuse, refusal
from headrace.router.core.placing import choose, preferred
from headrace.router.core.settings import SchedulerSettings
from headrace.router.core.waiting import Line
from headrace.router.core.worker import Batch, Worker, slack_s

LEAST_URGENT = max(Priority)


class Assigning:
    """Binds waiting requests to slots, as late as a slot is free. Used by the Scheduler alone."""

    def __init__(
        self,
        lives: Lives,
        fleet: Fleet,
        outlook: Outlook,
        fairness: Fairness,
        settings: SchedulerSettings,
    ) -> None:
        self._lives = lives
        self._fleet = fleet
        self._outlook = outlook
        self._fairness = fairness
        self._settings = settings
        self._merging = Merging(fleet, lives.waiting, outlook, settings, self._rules)
        self._numbers = 0
        self.again_at_s: float | None = None
        """When a slow slot that was left free is to be looked at again. Written by `run`."""

    def run(self, now: float) -> list[Command]:
        """Everything that can run now does afterwards."""
        self.again_at_s = None
        out: list[Command] = []
        while (commands := self._next(now)) is not None:
            out += commands
        return out

    def _next(self, now: float) -> list[Command] | None:
        waiting = self._lives.waiting
        if len(waiting) and self._fleet.roomy and not self._lives.draining:
            heads = waiting.heads()
            if len(heads) > 1:
                heads.sort(key=lambda entry: (entry[1].level, waiting.rank(entry[1])))
            # What a slow slot takes from behind the head of a line must not overtake the head of another.
            for number, (line, head) in enumerate(heads):
                bound = heads[number + 1][1].level if number + 1 < len(heads) else LEAST_URGENT
                if (commands := self._serve(line, head, now, bound)) is not None:
                    return commands
            for line, head in heads[:-1]:
                if (commands := self._serve(line, head, now, LEAST_URGENT)) is not None:
                    return commands
        if (worker := self._fleet.resumable()) is not None:
            batch = worker.to_resume()
            assert batch is not None, "it has a paused batch"
            return self._resume(batch, now)
        return None

    def _serve(self, line: Line, head: Held, now: float, bound: int) -> list[Command] | None:
        """Something for `head`, the first of its line, or for one behind it that a slow slot may take and that is of
        class `bound` or more urgent; None where nothing can be done.
        """
        model, apart = line
        free = [w for w in self._fleet.open(model) if not (apart and w.has_apart)]
        if free:
            here = preferred(free, head, self._settings.slower)
            held = self._taker(line, head, here, free, now, bound)
            if held is not None:
                paused = here.to_resume()
                if paused is not None and (
                    paused.level <= held.level
                    or self._outlook.patience_s(held, here.costs_for(held), now) > 0
                ):
                    return self._resume(paused, now)
                return self._start(held, here, now)
        return self._preempt(head, apart, now)

    def _taker(
        self, line: Line, head: Held, here: Worker, free: Sequence[Worker], now: float, bound: int
    ) -> Held | None:
        model, apart = line
        faster = [w for w in self._fleet.faster(here, model, self._settings.slower) if w not in free]
        if not faster:
            return head
        choice = choose(
            here,
            faster,
            takewhile(lambda held: held.level <= bound, self._lives.waiting.in_order(line)),
            model,
            apart=apart,
            now=now,
            look=self._settings.slow_lookahead + 2 * sum(w.slots for w in faster),
            lone_s=self._outlook.lone_s,
            share=self._outlook.share(model),
            meets=lambda held: self._meets(held, here, now),
        )
        if choice.again_at_s is not None:
            self._look_again(choice.again_at_s)
        return choice.held

    def _look_again(self, at_s: float) -> None:
        self.again_at_s = at_s if self.again_at_s is None else min(at_s, self.again_at_s)

    def _meets(self, held: Held, here: Worker, now: float) -> bool:
        """Whether a slow worker meets the objectives of a request that has some."""
        until_s = limit_s(held, self._settings.first_token_s)
        token_s = self._settings.token_s[held.priority]
        if until_s == inf and token_s == inf:
            return False
        costs, context = here.costs_for(held), held.context
        first_s = first_token_s(costs, self._outlook.extent(held))
        return now + first_s <= until_s and costs.step(1, context) <= token_s

    def _preempt(self, head: Held, apart: bool, now: float) -> list[Command] | None:
        costs = self._fleet.fastest(head.model)
        if costs is None:
            return None
        patience_s = self._outlook.patience_s(head, costs, now)
        if patience_s > 0:
            self._look_again(now + patience_s)
            return self._merge(head, apart, now)
        extent = self._outlook.extent(head)
        victim = self._fleet.victim(
            head.model,
            head.level,
            apart=apart,
            now=now,
            takes_s=lambda worker: duration_s(worker.costs_for(head), (extent,)),
        )
        if victim is None:
            return self._merge(head, apart, now)
        self._fleet.pause(victim, now)
        pause = Pause(worker=victim.worker, batch=victim.number, by=Priority(head.level))
        return [pause, *self._start(head, self._fleet.workers[victim.worker], now, disturbed=True)]

    def _merge(self, head: Held, apart: bool, now: float) -> list[Command] | None:
        """A batch that runs goes on as a larger one, with some that wait."""
        merge, again_s = self._merging.find((head.model, apart), head, now)
        if merge is None:
            if again_s < inf:
                self._look_again(again_s)
            return None
        worker, number = self._fleet.workers[merge.batch.worker], self._number()
        self._fleet.leave_slot(merge.batch)
        out: list[Command] = []
        assignments = []
        for held in merge.running:
            stop, assignment = self._lives.move(held, self._number(), worker.name)
            out += [stop, Regrouped(request_id=held.request_id)]
            assignments.append(assignment)
        assignments += [self._assign(held, worker) for held in merge.joining]
        batch = self._batch(
            number,
            worker,
            head,
            (*merge.running, *merge.joining),
            assignments,
            extents=merge.extents,
            expected_s=merge.expected_s,
            started_s=now,
            disturbed=True,
        )
        return [*out, self._begin(batch, head, assignments)]

    def _resume(self, batch: Batch, now: float) -> list[Command]:
        self._fleet.resume(batch, now)
        return [Resume(worker=batch.worker, batch=batch.number)]

    def _start(self, head: Held, worker: Worker, now: float, *, disturbed: bool = False) -> list[Command]:
        late_s = self._late_s(head, worker, now)
        if late_s > 0:
            return self._lives.refuse(head, refusal(late_s, jitter(head)))
        model, costs = head.model, worker.costs_for(head)
        group = form_group(head, self._lives.waiting.companions(head), costs, self._rules(head, worker, now))
        self._outlook.assigned(model, group)
        number = self._number()
        assignments = [self._assign(held, worker) for held in group.members]
        batch = self._batch(
            number,
            worker,
            head,
            group.members,
            assignments,
            extents=group.extents,
            expected_s=group.expected_s,
            started_s=now,
            disturbed=disturbed,
        )
        return [self._begin(batch, head, assignments)]

    def _assign(self, held: Held, worker: Worker) -> Assignment:
        self._charge(held)
        return self._lives.assign(held, self._number(), worker.name)

    def _batch(
        self,
        number: int,
        worker: Worker,
        head: Held,
        members: tuple[Held, ...],
        assignments: list[Assignment],
        *,
        extents: tuple[Extent, ...],
        expected_s: float,
        started_s: float,
        disturbed: bool,
    ) -> Batch:
        return Batch(
            number=number,
            worker=worker.name,
            lane=worker.lanes.index(None),
            model=head.model,
            level=head.level,
            members=members,
            assignments=tuple(assignment.number for assignment in assignments),
            extents=extents,
            expected_s=expected_s,
            started_s=started_s,
            apart=goes_apart(head),
            static_tokens=head.static_tokens,
            kept=worker.has_kept(head),
            disturbed=disturbed,
            slack_s=(
                inf if head.texts else slack_s(extents, expected_s, self._settings.token_s[head.priority])
            ),
        )

    def _begin(self, batch: Batch, head: Held, assignments: list[Assignment]) -> Start:
        self._fleet.begin(batch)
        return Start(
            worker=batch.worker,
            lane=batch.lane,
            batch=batch.number,
            model=batch.model,
            sampling=head.sampling,
            assignments=tuple(assignments),
            static_tokens=batch.static_tokens,
            kept=batch.kept,
        )

    def _rules(self, head: Held, worker: Worker, now: float) -> GroupRules:
        settings, share, model = self._settings, (head.model, head.level), head.model
        alike = self._lives.waiting.alike(head)
        # Tokens fill what is free now. Of texts, which come in large requests, the others get their share when they are
        # free: the fewer are left, the smaller the batches, and all lanes end at about the same time.
        slots = self._fleet.slots(model) if head.texts else self._fleet.open_slots(model)
        return GroupRules(
            cap=min(worker.max_batch, ceil(alike / max(1, slots))),
            max_skew=settings.max_skew,
            gain=settings.group_gain,
            misses=settings.group_misses,
            prefill_s=inf if worker.can_make_room else settings.max_prefill_s,
            company_s=settings.company_s,
            token_s=settings.token_s[head.priority],
            extent=self._outlook.extent,
            first_token_within_s=lambda held: (
                limit_s(held, settings.first_token_s) - now if held.generated == 0 else inf
            ),
            hopeless=lambda held: self._late_s(held, worker, now) > 0,
            room=lambda tenant: self._fairness.room(share, tenant),
            cost=self._cost,
        )

    def _late_s(self, held: Held, worker: Worker, now: float) -> float:
        """By how much it would miss its first token if it began now; 0 where it would not, or is not to be refused."""
        until_s = limit_s(held, self._settings.first_token_s)
        costs = worker.costs_for(held)
        if until_s == inf or not costs.known or not may_refuse(held):
            return 0.0
        first_s = first_token_s(costs, self._outlook.extent(held))
        return max(0.0, now + first_s - until_s)

    def _cost(self, held: Held) -> float:
        if held.charged is not None:
            return 0.0
        settings = self._settings
        tokens = settings.prompt_weight * held.prompt_tokens
        tokens += settings.output_weight * self._outlook.output(held)
        return self._fairness.cost(held.tenant, tokens)

    def _charge(self, held: Held) -> None:
        if held.charged is None:
            held.charged = self._cost(held)
            self._fairness.charge((held.model, held.level), held.tenant, held.charged)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers


def jitter(held: Held) -> float:
    """In [0, 1), by the request's id: no dice here, and the same request gets the same."""
    return crc32(held.request_id.encode()) / 2**32
