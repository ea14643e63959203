"""The scheduler: events in, commands out. Read `handle`, then the method of the event."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import assert_never

from headrace.contract.errors import DeadlinePassed, TooManyAttempts
from headrace.contract.values import Failure, FinishReason, OutcomeKind
from headrace.router.core import events as ev
from headrace.router.core.commands import (
    Assignment,
    Command,
    Deliver,
    Pull,
    Release,
    Requeued,
    Settle,
    Start,
    Stop,
    WakeAt,
)
from headrace.router.core.deadlines import Deadlines
from headrace.router.core.demand import Demand
from headrace.router.core.estimate import Estimate
from headrace.router.core.fleet import Fleet, RunningBatch, Worker
from headrace.router.core.grouping import form_group
from headrace.router.core.held import SETTLING, WAITING, Held, Running, Settling, Waiting
from headrace.router.core.order import rank
from headrace.router.core.waiting import WaitingList


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSettings:
    """The policy's constants."""

    max_held: int = 10_000
    """Requests held at once; when reached, nothing more is pulled and the rest waits in the broker."""
    lookahead: int = 32
    """Requests held per queue beyond what the lanes can take at once: what grouping can choose from."""
    max_attempts: int = 5
    """Lost or failed attempts before a request is given up as a dead letter."""
    remembered_cancels: int = 10_000
    """Cancellations kept for requests that are still in the broker; when full, the oldest is forgotten (its request
    is then computed, and finds its outcome already there)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one model's queue looks like from here."""

    waiting: tuple[int, ...]
    """By Priority: held here and on no lane."""
    seconds_per_request: float
    lanes: int
    free_lanes: int


class Scheduler:
    """All policy of a router. One writer: whoever calls `handle`.

    Invariants: a request is in `_waiting` iff its state is Waiting; `_assigned` maps exactly the assignments of
    Running requests; a request gets one Settle or one Release, and no command after it.
    """

    def __init__(self, settings: SchedulerSettings) -> None:
        self._settings = settings
        self._held: dict[str, Held] = {}
        self._assigned: dict[int, Held] = {}
        self._waiting = WaitingList()
        self._fleet = Fleet()
        self._demand = Demand(max_held=settings.max_held, lookahead=settings.lookahead)
        self._estimate = Estimate()
        self._known: frozenset[str] = frozenset()
        self._cancelled: OrderedDict[tuple[str, str], OutcomeKind] = OrderedDict()
        self._deadlines = Deadlines()
        self._next_number = 0
        self._draining = False

    def __repr__(self) -> str:
        return (
            f"Scheduler(held={len(self._held)}, waiting={len(self._waiting)}, running={len(self._assigned)}, "
            f"workers={len(self._fleet.workers)})"
        )

    def __len__(self) -> int:
        """Requests held."""
        return len(self._held)

    def load(self, model: str) -> Load:
        """What waits for `model`, and for how long."""
        lanes = self._fleet.lanes(model)
        return Load(
            waiting=self._waiting.count(model),
            seconds_per_request=self._estimate.seconds_per_request(model, lanes),
            lanes=lanes,
            free_lanes=self._fleet.free_lanes(model),
        )

    def handle(self, event: ev.Event, now: float) -> list[Command]:
        """The commands that follow from `event`, in the order in which they are to be done."""
        match event:
            case ev.Progressed():
                return self._progressed(event)
            case ev.RequestArrived():
                out = self._arrived(event, now)
            case ev.RequestRefused(queue=queue):
                self._demand.arrived(queue)
                out = []
            case ev.PullLapsed(queue=queue, count=count):
                self._demand.arrived(queue, count)
                out = []
            case ev.QueueSeen(queue=queue, model=model):
                self._demand.see(queue, model)
                out = []
            case ev.QueueGone(queue=queue):
                self._demand.forget(queue)
                out = []
            case ev.ModelsKnown(models=models):
                self._known = models
                self._demand.all_changed()
                out = []
            case ev.WorkerJoined():
                self._fleet.join(event.worker, event.lanes, event.max_batch, event.models)
                self._demand.all_changed()
                out = []
            case ev.WorkerDraining(worker=worker):
                out = self._worker_draining(worker)
            case ev.WorkerLost(worker=worker):
                out = self._worker_lost(worker)
            case ev.EntryCompleted():
                out = self._entry_completed(event)
            case ev.EntryFailed():
                out = self._entry_failed(event)
            case ev.EntryStopped(assignment=assignment):
                out = self._entry_stopped(assignment)
            case ev.BatchEnded():
                out = self._batch_ended(event, now)
            case ev.CancelAsked():
                out = self._cancel_asked(event)
            case ev.Settled(request_id=request_id):
                self._held.pop(request_id, None)
                self._deadlines.remove(request_id)
                out = []
            case ev.Woke():
                self._deadlines.woke()
                out = []
            case ev.DrainBegan():
                out = self._drain_began()
            case ev.DrainEnded():
                out = self._drain_ended()
            case _:
                assert_never(event)
        out.extend(self._expire(now))
        out.extend(self._assign(now))
        out.extend(self._pull())
        if (at_s := self._deadlines.next_wake()) is not None:
            out.append(WakeAt(at_s=at_s))
        return out

    # A request comes in.

    def _arrived(self, event: ev.RequestArrived, now: float) -> list[Command]:
        self._demand.arrived(event.queue)
        assert event.request_id not in self._held, "the shell knows whom it holds"
        held = Held(
            request_id=event.request_id,
            queue=event.queue,
            model=event.model,
            priority=event.priority,
            tenant=event.tenant,
            sampling=event.sampling,
            prompt_tokens=event.prompt_tokens,
            max_tokens=event.max_tokens,
            arrived_s=event.arrived_s,
            deadline_s=event.deadline_s,
            generated=event.generated,
            state=SETTLING,
        )
        self._held[held.request_id] = held
        if self._draining:
            return [Release(request_id=held.request_id)]
        if (kind := self._cancelled.pop((held.tenant, held.request_id), None)) is not None:
            return [Settle(request_id=held.request_id, kind=kind)]
        if held.deadline_s is not None and held.deadline_s <= now:
            return [self._expired(held, now)]
        if held.complete:
            return [_complete(held)]  # a router was lost between the last token and the outcome
        if held.deadline_s is not None:
            self._deadlines.add(held.request_id, held.deadline_s)
        self._wait(held)
        return []

    def _wait(self, held: Held) -> None:
        held.state = WAITING
        self._waiting.add(held)
        self._demand.waits(held.queue, +1)

    def _stop_waiting(self, held: Held) -> None:
        self._waiting.remove(held)
        self._demand.waits(held.queue, -1)

    # It is assigned.

    def _assign(self, now: float) -> list[Command]:
        out: list[Command] = []
        if self._draining:
            return out
        while (found := self._pick()) is not None:
            head, worker, lane = found
            group = form_group(
                head,
                self._waiting.compatible(head),
                free_lanes=self._fleet.free_lanes(head.model),
                max_batch=worker.max_batch,
            )
            out.append(self._start(group, worker, lane, now))
        return out

    def _pick(self) -> tuple[Held, Worker, int] | None:
        """The first in order among the waiting requests that a free lane can take, and that lane."""
        best: tuple[Held, Worker, int] | None = None
        for model in self._waiting.models():
            head = self._waiting.head(model)
            if head is None or (best is not None and rank(best[0]) < rank(head)):
                continue
            if (free := self._fleet.pick(model)) is not None:
                best = (head, *free)
        return best

    def _start(self, group: list[Held], worker: Worker, lane: int, now: float) -> Start:
        batch = self._number()
        assignments = []
        for held in group:
            self._stop_waiting(held)
            number = self._number()
            held.attempts += 1
            held.state = Running(assignment=number, worker=worker.name)
            self._assigned[number] = held
            assignments.append(Assignment(number=number, request_id=held.request_id, attempt=held.attempts))
        self._fleet.occupy(
            worker.name,
            lane,
            RunningBatch(
                batch=batch,
                model=group[0].model,
                started_s=now,
                size=len(group),
                assignments=tuple(a.number for a in assignments),
            ),
        )
        return Start(
            worker=worker.name,
            lane=lane,
            batch=batch,
            model=group[0].model,
            sampling=group[0].sampling,
            assignments=tuple(assignments),
        )

    def _number(self) -> int:
        self._next_number += 1
        return self._next_number

    # It runs.

    def _progressed(self, event: ev.Progressed) -> list[Command]:
        held = self._assigned.get(event.assignment)
        if held is None or event.tokens.first_index != held.generated:
            return []  # a late frame
        held.generated = event.tokens.next_index
        return [Deliver(request_id=held.request_id, tokens=event.tokens)]

    def _entry_completed(self, event: ev.EntryCompleted) -> list[Command]:
        held = self._leave_lane(event.assignment)
        if held is None:
            return []
        held.state = SETTLING
        return [
            Settle(
                request_id=held.request_id,
                kind=OutcomeKind.COMPLETED,
                finish_reason=event.finish_reason,
            )
        ]

    def _entry_failed(self, event: ev.EntryFailed) -> list[Command]:
        held = self._leave_lane(event.assignment)
        return [] if held is None else [self._after_loss(held, event.failure.message)]

    def _entry_stopped(self, assignment: int) -> list[Command]:
        # Nobody here asked for it, or it would not be assigned any more: the worker hands it back.
        held = self._leave_lane(assignment)
        if held is None:
            return []
        return [self._again(held, "handed back by its worker")]

    def _leave_lane(self, assignment: int) -> Held | None:
        return self._assigned.pop(assignment, None)

    def _after_loss(self, held: Held, reason: str) -> Command:
        held.losses += 1
        if held.complete or held.losses < self._settings.max_attempts:
            return self._again(held, reason)
        held.state = SETTLING
        error = TooManyAttempts(held.losses, reason)
        return Settle(
            request_id=held.request_id,
            kind=OutcomeKind.FAILED,
            failure=Failure(code=error.code, message=str(error)),
            dead=True,
        )

    def _again(self, held: Held, reason: str) -> Command:
        if held.complete:
            held.state = SETTLING
            return _complete(held)  # its worker was lost between the last token and the end
        if self._draining:
            held.state = SETTLING
            return Release(request_id=held.request_id)
        self._wait(held)
        return Requeued(request_id=held.request_id, reason=reason)

    # Workers come and go.

    def _batch_ended(self, event: ev.BatchEnded, now: float) -> list[Command]:
        ended = self._fleet.free(event.worker, event.lane, event.batch)
        if ended is None:
            return []
        self._estimate.observe(ended.model, now - ended.started_s, ended.size)
        return self._hand_back(ended, "its batch ended without it")

    def _worker_draining(self, name: str) -> list[Command]:
        self._fleet.drain(name)
        self._demand.all_changed()
        return []

    def _worker_lost(self, name: str) -> list[Command]:
        lost = self._fleet.leave(name)
        self._demand.all_changed()
        return [command for batch in lost for command in self._hand_back(batch, "its worker was lost")]

    def _hand_back(self, batch: RunningBatch, reason: str) -> list[Command]:
        """What a batch that is no more still had running is lost."""
        out: list[Command] = []
        for assignment in batch.assignments:
            held = self._leave_lane(assignment)
            if held is not None:
                out.append(self._after_loss(held, reason))
        return out

    # It ends early.

    def _cancel_asked(self, event: ev.CancelAsked) -> list[Command]:
        held = self._held.get(event.request_id)
        if held is None or held.tenant != event.tenant:
            self._cancelled[event.tenant, event.request_id] = event.kind
            if len(self._cancelled) > self._settings.remembered_cancels:
                self._cancelled.popitem(last=False)
            return []
        return self._end(held, Settle(request_id=held.request_id, kind=event.kind))

    def _expire(self, now: float) -> list[Command]:
        """Ends the requests whose deadline has come. Before anything is started: no compute is spent on them."""
        due = [self._held[request_id] for request_id in self._deadlines.pop_due(now)]
        return [command for held in due for command in self._end(held, self._expired(held, now))]

    def _expired(self, held: Held, now: float) -> Settle:
        assert held.deadline_s is not None
        error = DeadlinePassed(now - held.deadline_s)
        failure = Failure(code=error.code, message=str(error), field=error.field)
        return Settle(request_id=held.request_id, kind=OutcomeKind.EXPIRED, failure=failure)

    def _end(self, held: Held, last: Settle | Release) -> list[Command]:
        """Ends a request in whatever state it is; nothing where it is ending already."""
        match held.state:
            case Settling():
                return []
            case Waiting():
                self._stop_waiting(held)
                held.state = SETTLING
                return [last]
            case Running(assignment=assignment, worker=worker):
                self._leave_lane(assignment)
                held.state = SETTLING
                return [Stop(worker=worker, assignment=assignment), last]
            case _:
                assert_never(held.state)

    # The router leaves.

    def _drain_began(self) -> list[Command]:
        self._draining = True
        return [
            command
            for held in list(self._waiting)
            for command in self._end(held, Release(request_id=held.request_id))
        ]

    def _drain_ended(self) -> list[Command]:
        return [
            command
            for held in list(self._held.values())
            for command in self._end(held, Release(request_id=held.request_id))
        ]

    # More is asked for.

    def _pull(self) -> list[Command]:
        if self._draining:
            return []
        out: list[Command] = []
        held = len(self._held)
        for queue, model in self._demand.changed(held):
            if model in self._known:
                count = self._demand.pull(queue, self._fleet.room(model), held)
            else:
                count = self._demand.pull_to_refuse(queue, held)
            if count:
                out.append(Pull(queue=queue, count=count))
        return out


def _complete(held: Held) -> Settle:
    return Settle(request_id=held.request_id, kind=OutcomeKind.COMPLETED, finish_reason=FinishReason.LENGTH)
