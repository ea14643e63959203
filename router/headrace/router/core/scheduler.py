"""The scheduler: events in, commands out. Read `handle`, then the method of the event."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import assert_never

from headrace.contract.values import Failure, FinishReason, OutcomeKind, QueuePosition
from headrace.router.core import events as ev
from headrace.router.core.assigning import Assigning, jitter
from headrace.router.core.commands import Command, Pull, WakeAt
from headrace.router.core.demand import Demand
from headrace.router.core.estimate import Estimate
from headrace.router.core.fairness import Fairness
from headrace.router.core.fleet import Fleet
from headrace.router.core.held import Held, Waiting
from headrace.router.core.lives import Lives
from headrace.router.core.outlook import Outlook
from headrace.router.core.overload import limit_s, may_refuse, refusal, victims
from headrace.router.core.settings import SchedulerSettings
from headrace.router.core.view import QueueView, WorkerView, view_queues, view_workers
from headrace.router.core.waiting import WaitingList
from headrace.router.core.worker import Batch


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
    for a model that other routers have lanes for and this one has not, nor for a version that has none while another
    version of the alias that it asks for has some, here or there.
    """

    def __init__(self, settings: SchedulerSettings) -> None:
        self._settings = settings
        self._demand = Demand(max_held=settings.max_held, lookahead=settings.lookahead)
        self._fairness = Fairness(slack=settings.fairness_slack, weights=settings.tenant_weights)
        self._waiting = WaitingList(self._fairness, ageing_s=settings.ageing_s)
        self._lives = Lives(
            self._waiting,
            max_attempts=settings.max_attempts,
            on_waiting=self._demand.waits,
            on_end=self._settle_account,
        )
        self._fleet = Fleet()
        self._estimate = Estimate()
        self._outlook = Outlook(self._fleet, self._waiting, settings)
        self._assigning = Assigning(self._lives, self._fleet, self._outlook, self._fairness, settings)
        self._known: frozenset[str] = frozenset()
        self._peers: frozenset[str] = frozenset()
        """Models that other routers have lanes for."""
        self._routes: Mapping[str, tuple[str, ...]] = {}
        """By alias: the versions that may answer. What is asked for and stands not in here is a model itself."""
        self._cancelled: OrderedDict[tuple[str, str], OutcomeKind] = OrderedDict()

    def __repr__(self) -> str:
        return f"Scheduler({self._lives!r}, workers={len(self._fleet.workers)})"

    def __len__(self) -> int:
        """Requests held."""
        return len(self._lives)

    def served(self) -> frozenset[str]:
        """The models that it has lanes for and takes requests of."""
        return frozenset() if self._lives.draining else self._fleet.served()

    def load(self, *models: str) -> Load:
        """What waits for these models, the versions of an alias or a single one. How long one takes is said of the
        first.
        """
        slots, open_slots = self._fleet.slots_of_any(models)
        waiting = zip(*(self._waiting.count(model) for model in models), strict=True)
        return Load(
            waiting=tuple(map(sum, waiting)),
            seconds_per_request=self._estimate.seconds_per_request(models[0], slots),
            lanes=slots,
            free_lanes=open_slots,
        )

    def work_s(self, model: str) -> float:
        """Seconds of a lane that a request of a model took lately, be it served now or not; 0 = nobody knows yet."""
        return self._estimate.work_s(model)

    def workers(self) -> tuple[WorkerView, ...]:
        """Who has joined, and what their lanes run."""
        return view_workers(self._fleet, self._lives)

    def queues(self) -> tuple[QueueView, ...]:
        """Of whom requests wait here, for how long."""
        return view_queues(self._lives)

    def ready_at_s(self, model: str) -> float | None:
        """When a lane is expected for a model that has none; None where that is not known."""
        return None if self._fleet.slots(model) else self._fleet.ready_at_s(model)

    def waits(self, request_id: str) -> bool:
        """Whether it is held, and on no lane."""
        held = self._lives.get(request_id)
        return held is not None and isinstance(held.state, Waiting)

    def place(self, request_id: str, now: float) -> QueuePosition:
        """How many go before a request, and how long it will wait; nothing of both where it does not wait."""
        held = self._lives.get(request_id)
        if held is None or not isinstance(held.state, Waiting):
            return QueuePosition(ahead=0, estimated_wait_s=0.0)
        return self._outlook.place(held, now)

    def handle(self, event: ev.Event, now: float) -> list[Command]:
        """The commands that follow from `event`, in the order in which they are to be done."""
        if isinstance(event, ev.Progressed):
            # By far the most frequent, and it frees no lane and ends no request.
            delivered = self._lives.advance(event.assignment, event.tokens)
            if delivered is not None:
                return delivered
        out = self._happened(event, now)
        out += self._lives.expire(now)  # before anything is started: no compute is spent on them
        self._waiting.promote(now)
        out += self._assigning.run(now)
        out += self._release_to_peers()
        out += self._pull()
        if (at_s := self._lives.next_wake(self._assigning.again_at_s)) is not None:
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
                return self._release_unknown()
            case ev.RoutesKnown(routes=routes):
                self._routes = routes
                self._demand.all_changed()
            case ev.WorkerJoined():
                self._fleet.join(
                    event.worker,
                    lanes=event.lanes,
                    slots=event.slots,
                    max_batch=event.max_batch,
                    models=event.models,
                    costs=event.costs,
                    tasks=event.tasks,
                    busy=event.busy,
                )
                self._demand.all_changed()
            case ev.ModelCame(worker=worker, model=model, cost=cost):
                self._fleet.model_came(worker, model, cost)
                self._demand.all_changed()
            case ev.ModelWent(worker=worker, model=model):
                self._fleet.model_went(worker, model)
                self._demand.all_changed()
                return self._release_unknown()
            case ev.ModelsComing(worker=worker, models=models):
                if (known := self._fleet.workers.get(worker)) is not None:
                    known.coming = models
            case ev.WorkerDraining(worker=worker):
                self._fleet.drain(worker)
                self._demand.all_changed()
            case ev.WorkerLost(worker=worker):
                self._demand.all_changed()
                return self._lose(self._fleet.leave(worker), "its worker was lost")
            case ev.EntryCompleted(assignment=assignment, finish_reason=reason, vectors=vectors):
                if (held := self._lives.assigned(assignment)) is not None:
                    self._outlook.ended(held, by_itself=reason is not FinishReason.LENGTH)
                return self._lives.complete(assignment, reason, vectors)
            case ev.EntryFailed(assignment=assignment, failure=failure):
                return self._lives.lose(assignment, failure.message, failure.code)
            case ev.EntryStopped(assignment=assignment):
                # Nobody here asked for it, or it would not be assigned any more.
                return self._lives.hand_back(assignment, "handed back by its worker")
            case ev.BatchEnded():
                return self._batch_ended(event, now)
            case ev.LaneFreed(worker=worker, lane=lane):
                self._fleet.free(worker, lane)
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
        held.work_s = self._outlook.lone_s(held)
        refused = self._too_late(held, now)
        if refused == [held]:
            return lives.refuse(held, self._refusal(held, now))
        out = [command for other in refused for command in lives.refuse(other, self._refusal(other, now))]
        lives.wait(held)
        return out

    def _too_late(self, held: Held, now: float) -> list[Held]:
        """Whom to refuse so that the others have a first token in time: nobody, some that go before it, or itself."""
        until_s = limit_s(held, self._settings.first_token_s)
        first_s = self._outlook.first_s(held)
        if until_s == inf or first_s is None or not may_refuse(held):
            return []
        _, wait_s = self._outlook.wait_s(held, now)
        late_s = now + wait_s + first_s - until_s
        if late_s <= 0:
            return []
        excess_s = late_s * self._fleet.speed(held.model) / self._outlook.share(held.model)
        before = (
            other
            for other in self._waiting.peers(held)
            if self._waiting.rank(other) < self._waiting.rank(held)
        )
        return victims(held, before, excess_s) or [held]

    def _refusal(self, held: Held, now: float) -> Failure:
        _, wait_s = self._outlook.wait_s(held, now)
        late_s = (
            now + wait_s + (self._outlook.first_s(held) or 0.0) - limit_s(held, self._settings.first_token_s)
        )
        return refusal(late_s, jitter(held))

    def _settle_account(self, held: Held) -> None:
        """A request ends: its tenant is charged for what it got, rather than for what was expected."""
        if held.charged is None:
            return
        settings = self._settings
        tokens = settings.prompt_weight * held.prompt_tokens + settings.output_weight * held.generated
        cost = self._fairness.cost(held.tenant, tokens)
        self._fairness.correct((held.model, held.level), held.tenant, cost - held.charged)

    def _batch_ended(self, event: ev.BatchEnded, now: float) -> list[Command]:
        ended = self._fleet.end(event.worker, event.lane, event.batch)
        if ended is None:
            return []
        self._estimate.observe(ended.model, ended.ran_s(now), len(ended.members))
        self._fleet.observe(ended, now)
        return self._lose([ended], "its batch ended without it")

    def _lose(self, batches: list[Batch], reason: str) -> list[Command]:
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

    def _release_to_peers(self) -> list[Command]:
        """What waits for a lane that only another router, or only another version, has goes there, by way of its queue.

        It may come back while a pull is open here; each time takes one of the messages that are still coming, so
        that ends.
        """
        return [
            command
            for model in self._waiting.models()
            if not self._fleet.slots(model)
            for command in self._lives.release_waiting(model, self._goes_elsewhere)
        ]

    def _release_unknown(self) -> list[Command]:
        """What waits for a model that nobody has or wants any more goes back to its queue, to be refused from there."""
        return [
            command
            for model in self._waiting.models()
            if model not in self._known and not self._fleet.slots(model)
            for command in self._lives.release_waiting(model)
        ]

    def _goes_elsewhere(self, held: Held) -> bool:
        """Whether a request whose model has no lanes here could run at another router, or as another version."""
        return held.model in self._peers or any(
            other in self._peers or self._fleet.slots(other) for other in self._routes.get(held.asked, ())
        )

    def _models_of(self, asked: str | None) -> tuple[str, ...]:
        """What the requests of a queue may run as: its name's versions, as far as this router can tokenise for them."""
        if asked is None:
            return ()
        return tuple(model for model in self._routes.get(asked, (asked,)) if model in self._known)

    # There is room for more.

    def _pull(self) -> list[Command]:
        if self._lives.draining:
            return []
        out: list[Command] = []
        held = len(self._lives)
        for queue, model in self._demand.changed(held):
            if models := self._models_of(model):
                room = sum(self._fleet.room(each) for each in models)
                count = self._demand.pull(queue, room, held)
            else:
                count = self._demand.pull_to_refuse(queue, held)
            if count:
                out.append(Pull(queue=queue, count=count))
        return out
