"""The scheduler: events in, commands out. Read `handle`, then the method of the event."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import assert_never

from headrace.contract.values import FinishReason, OutcomeKind
from headrace.router.core import events as ev
from headrace.router.core.commands import Command, Pull, Start, WakeAt
from headrace.router.core.demand import Demand
from headrace.router.core.estimate import Estimate
from headrace.router.core.fleet import Fleet, RunningBatch, Worker
from headrace.router.core.grouping import form_group, goes_apart
from headrace.router.core.held import Held
from headrace.router.core.lives import Lives
from headrace.router.core.order import rank


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

    Invariants, once `handle` has returned: no lane is free while a request that it could take waits; no request waits
    for a model that other routers have lanes for and this one has not.
    """

    def __init__(self, settings: SchedulerSettings) -> None:
        self._settings = settings
        self._demand = Demand(max_held=settings.max_held, lookahead=settings.lookahead)
        self._lives = Lives(max_attempts=settings.max_attempts, on_waiting=self._demand.waits)
        self._fleet = Fleet()
        self._estimate = Estimate()
        self._known: frozenset[str] = frozenset()
        self._peers: frozenset[str] = frozenset()
        """Models that other routers have lanes for."""
        self._cancelled: OrderedDict[tuple[str, str], OutcomeKind] = OrderedDict()
        self._next_number = 0

    def __repr__(self) -> str:
        return f"Scheduler({self._lives!r}, workers={len(self._fleet.workers)})"

    def __len__(self) -> int:
        """Requests held."""
        return len(self._lives)

    def served(self) -> frozenset[str]:
        """The models that it has lanes for and takes requests of."""
        return frozenset() if self._lives.draining else self._fleet.served()

    def load(self, model: str) -> Load:
        """What waits for `model`, and for how long."""
        lanes = self._fleet.lanes(model)
        return Load(
            waiting=self._lives.waiting.count(model),
            seconds_per_request=self._estimate.seconds_per_request(model, lanes),
            lanes=lanes,
            free_lanes=self._fleet.free_lanes(model),
        )

    def handle(self, event: ev.Event, now: float) -> list[Command]:
        """The commands that follow from `event`, in the order in which they are to be done."""
        if isinstance(event, ev.Progressed):
            # By far the most frequent, and it frees no lane and ends no request.
            delivered = self._lives.advance(event.assignment, event.tokens)
            if delivered is not None:
                return delivered
        out = self._happened(event, now)
        out += self._lives.expire(now)  # before anything is started: no compute is spent on them
        out += self._assign(now)
        out += self._release_to_peers()
        out += self._pull()
        if (at_s := self._lives.next_wake()) is not None:
            out.append(WakeAt(at_s=at_s))
        return out

    def _happened(self, event: ev.Event, now: float) -> list[Command]:
        """What follows at once; what becomes possible by it is looked for afterwards."""
        match event:
            case ev.RequestArrived():
                return self._arrived(event, now)
            case ev.RequestRefused(queue=queue):
                self._demand.arrived(queue)
            case ev.PullLapsed(queue=queue, count=count):
                self._demand.arrived(queue, count)
            case ev.QueueSeen(queue=queue, model=model):
                self._demand.see(queue, model)
            case ev.QueueGone(queue=queue):
                self._demand.forget(queue)
            case ev.ModelsKnown(models=models):
                self._known = models
                self._demand.all_changed()
            case ev.WorkerJoined():
                self._fleet.join(event.worker, event.lanes, event.max_batch, event.models)
                self._demand.all_changed()
            case ev.WorkerDraining(worker=worker):
                self._fleet.drain(worker)
                self._demand.all_changed()
            case ev.WorkerLost(worker=worker):
                self._demand.all_changed()
                return self._lose(self._fleet.leave(worker), "its worker was lost")
            case ev.EntryCompleted(assignment=assignment, finish_reason=reason):
                return self._lives.complete(assignment, reason)
            case ev.EntryFailed(assignment=assignment, failure=failure):
                return self._lives.lose(assignment, failure.message)
            case ev.EntryStopped(assignment=assignment):
                # Nobody here asked for it, or it would not be assigned any more.
                return self._lives.hand_back(assignment, "handed back by its worker")
            case ev.BatchEnded():
                return self._batch_ended(event, now)
            case ev.CancelAsked():
                return self._cancel_asked(event)
            case ev.RequestTaken(request_id=request_id):
                if (held := self._lives.get(request_id)) is not None:
                    return self._lives.let_go(held)
            case ev.PeersServe(models=models):
                self._peers = models
            case ev.Settled(request_id=request_id):
                self._lives.forget(request_id)
            case ev.Woke():
                self._lives.woke()
            case ev.DrainBegan():
                self._lives.draining = True
                return self._lives.release_all(waiting_only=True)
            case ev.DrainEnded():
                return self._lives.release_all(waiting_only=False)
            case ev.Progressed(assignment=assignment):
                return self._lives.break_off(assignment, "its worker skipped tokens, or made too many")
            case _:
                assert_never(event)
        return []

    def _arrived(self, event: ev.RequestArrived, now: float) -> list[Command]:
        self._demand.arrived(event.queue)
        lives = self._lives
        held = lives.begin(event)
        if lives.draining:
            return lives.release_new(held)
        if (kind := self._cancelled.pop((held.tenant, held.request_id), None)) is not None:
            return lives.end_new(held, kind)
        if held.deadline_s is not None and held.deadline_s <= now:
            return [lives.expired(held, now)]
        if held.complete:  # a router was lost between the last token and the outcome
            return lives.end_new(held, OutcomeKind.COMPLETED, FinishReason.LENGTH)
        lives.wait(held)
        return []

    def _batch_ended(self, event: ev.BatchEnded, now: float) -> list[Command]:
        ended = self._fleet.free(event.worker, event.lane, event.batch)
        if ended is None:
            return []
        self._estimate.observe(ended.model, now - ended.started_s, ended.size)
        return self._lose([ended], "its batch ended without it")

    def _lose(self, batches: list[RunningBatch], reason: str) -> list[Command]:
        """What batches that are no more still had running is lost."""
        return [
            command
            for batch in batches
            for assignment in batch.assignments
            for command in self._lives.lose(assignment, reason)
        ]

    def _cancel_asked(self, event: ev.CancelAsked) -> list[Command]:
        held = self._lives.get(event.request_id)
        if held is not None and held.tenant == event.tenant:
            return self._lives.settle(held, event.kind)
        self._cancelled[event.tenant, event.request_id] = event.kind
        if len(self._cancelled) > self._settings.remembered_cancels:
            self._cancelled.popitem(last=False)
        return []

    # A lane is free, and a request waits.

    def _assign(self, now: float) -> list[Command]:
        out: list[Command] = []
        if self._lives.draining:
            return out
        while (found := self._pick()) is not None:
            head, worker, lane = found
            group = form_group(
                head,
                self._lives.waiting.compatible(head),
                free_lanes=self._fleet.free_lanes(head.model),
                max_batch=worker.max_batch,
            )
            out.append(self._start(group, worker, lane, now))
        return out

    def _pick(self) -> tuple[Held, Worker, int] | None:
        """The first in order among the waiting requests that a free lane can take, and that lane."""
        best: tuple[Held, Worker, int] | None = None
        for (model, apart), head in self._lives.waiting.heads():
            if best is not None and rank(best[0]) < rank(head):
                continue
            if (free := self._fleet.pick(model, apart=apart)) is not None:
                best = (head, *free)
        return best

    def _release_to_peers(self) -> list[Command]:
        """What waits for a lane that only another router has goes there, by way of its queue.

        It may come back while a pull is open here; each time takes one of the messages that are still coming, so
        that ends.
        """
        return [
            command
            for model in self._lives.waiting.models()
            if model in self._peers and not self._fleet.lanes(model)
            for command in self._lives.release_waiting(model)
        ]

    def _start(self, group: list[Held], worker: Worker, lane: int, now: float) -> Start:
        batch, model = self._number(), group[0].model
        assignments = tuple(self._lives.assign(held, self._number(), worker.name) for held in group)
        running = RunningBatch(
            batch=batch,
            model=model,
            started_s=now,
            size=len(group),
            assignments=tuple(assignment.number for assignment in assignments),
            apart=goes_apart(group[0]),
        )
        self._fleet.occupy(worker.name, lane, running)
        return Start(
            worker=worker.name,
            lane=lane,
            batch=batch,
            model=model,
            sampling=group[0].sampling,
            assignments=assignments,
        )

    def _number(self) -> int:
        self._next_number += 1
        return self._next_number

    # There is room for more.

    def _pull(self) -> list[Command]:
        if self._lives.draining:
            return []
        out: list[Command] = []
        held = len(self._lives)
        for queue, model in self._demand.changed(held):
            if model in self._known:
                count = self._demand.pull(queue, self._fleet.room(model), held)
            else:
                count = self._demand.pull_to_refuse(queue, held)
            if count:
                out.append(Pull(queue=queue, count=count))
        return out
