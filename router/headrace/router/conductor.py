"""The one loop between the pure core and the world: tells it what happened, does what it commands, decides nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, assert_never

import structlog

from headrace.contract.deliver import HeldStream
from headrace.contract.values import Outcome, QueuePosition
from headrace.contract.work import BatchEntry, StartBatch
from headrace.router.clock import Clock
from headrace.router.core import commands as cmd
from headrace.router.core.events import (
    DrainBegan,
    Event,
    ModelCame,
    ModelWent,
    RequestTaken,
    Settled,
    Woke,
    WorkerDraining,
    WorkerJoined,
    WorkerLost,
)
from headrace.router.core.scheduler import Load, Scheduler
from headrace.router.core.view import QueueView, WorkerView
from headrace.router.delivery import Delivery
from headrace.router.figures import Figures
from headrace.router.gateway_link import GatewayLink
from headrace.router.gateways import Gateways
from headrace.router.leases import Leases
from headrace.router.ledger import Hold, Ledger, Record
from headrace.router.metrics import RouterMetrics
from headrace.router.outcomes import Outcomes
from headrace.router.ownership import Ownership
from headrace.router.queues import Queues
from headrace.router.recorder import Recorder
from headrace.router.rollouts import Rollouts
from headrace.router.shadows import Shadows
from headrace.router.spans import RouterSpans
from headrace.router.statics import Statics
from headrace.router.waits import Waits
from headrace.router.workers import Workers

log = structlog.get_logger(__name__)

_CHANGES_FLEET = (WorkerJoined, WorkerDraining, WorkerLost, ModelCame, ModelWent, DrainBegan)


class Conductor:
    """The only caller of the scheduler, and the only writer of records. All its methods run on the event loop."""

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        clock: Clock,
        ledger: Ledger,
        spans: RouterSpans,
        metrics: RouterMetrics,
        waits: Waits,
        figures: Figures,
        recorder: Recorder | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._figures = figures
        self._clock = clock
        self._ledger = ledger
        self._tasks: set[asyncio.Task[None]] = set()
        self._spans = spans
        self._metrics = metrics
        self._waits = waits
        self._recorder = recorder
        self._timer: asyncio.TimerHandle | None = None
        self._on_fleet: Callable[[], None] = lambda: None

    def connect(
        self,
        *,
        queues: Queues,
        workers: Workers,
        gateways: Gateways,
        delivery: Delivery,
        outcomes: Outcomes,
        ownership: Ownership,
        leases: Leases,
        rollouts: Rollouts,
        shadows: Shadows,
        statics: Statics,
        on_fleet: Callable[[], None],
    ) -> None:
        """Gives it its hands. They were made with `tell`, so they could not come first. `on_fleet` is called where
        what this router serves may have changed.
        """
        self._queues = queues
        self._workers = workers
        self._gateways = gateways
        self._delivery = delivery
        self._outcomes = outcomes
        self._ownership = ownership
        self._leases = leases
        self._rollouts = rollouts
        self._shadows = shadows
        self._statics = statics
        self._on_fleet = on_fleet

    def load(self, *models: str) -> Load:
        return self._scheduler.load(*models)

    def ready_in_s(self, model: str) -> float | None:
        """Seconds until a lane is expected for a model that has none; None where that is not known."""
        at_s = self._scheduler.ready_at_s(model)
        return None if at_s is None else max(0.0, at_s - self._clock.now())

    def work_s(self, model: str) -> float:
        """Seconds of a lane that a request of a model takes; 0 = nobody knows yet."""
        return self._scheduler.work_s(model)

    def held(self, model: str) -> int:
        """Requests that wait here for a version, and so in the broker no more."""
        return sum(self._scheduler.load(model).waiting)

    def place(self, record: Record) -> QueuePosition:
        """How many go before a request that is held here, and for how long, as far as can be told; kept as what its
        followers were told.
        """
        place = self.place_now(record)
        if self._scheduler.waits(record.id):
            record.place = place
            if record.estimate is None and place.estimated_wait_s is not None:
                record.estimate = (time.time(), place.estimated_wait_s)
        return place

    def place_now(self, record: Record) -> QueuePosition:
        """The same, not told to anybody yet."""
        return self._scheduler.place(record.id, self._clock.now())

    def waits(self, request_id: str) -> bool:
        """Whether a request is held here, and on no lane."""
        return self._scheduler.waits(request_id)

    def tell(self, event: Event) -> None:
        """Something happened: does, in order, what follows from it."""
        now = self._clock.now()
        began_s = time.perf_counter()
        if isinstance(event, WorkerJoined):
            self._waits.loaded({model: cost.load_s for model, cost in event.costs.items()})
        elif isinstance(event, ModelCame) and event.cost is not None:
            self._waits.loaded({event.model: event.cost.load_s})
        commands = self._scheduler.handle(event, now)
        if isinstance(event, _CHANGES_FLEET):
            self._waits.fleet(self._scheduler.served())
        self._metrics.decided(event, began_s)
        if self._recorder is not None:
            self._recorder.note(event, now, commands)
        for command in commands:
            self._do(command)
        if isinstance(event, _CHANGES_FLEET):
            self._on_fleet()

    def workers(self) -> tuple[WorkerView, ...]:
        """Who has joined, and what their lanes run."""
        return self._scheduler.workers()

    def waiting(self) -> tuple[QueueView, ...]:
        """The queues of which requests wait here."""
        return self._scheduler.queues()

    def served(self) -> frozenset[str]:
        """The models that this router has lanes for."""
        return self._scheduler.served()

    def taken(self, record: Record) -> None:
        """Another router goes on with a request that is held here."""
        record.hold = Hold.TAKEN  # intake, if it still has it, sees that
        self.tell(RequestTaken(request_id=record.id))

    def _do(self, command: cmd.Command) -> None:
        match command:
            case cmd.Deliver(request_id=request_id, tokens=tokens):
                record = self._ledger[request_id]
                first = record.first_token_s is None
                record.keep(tokens)
                if record.shadow_of is None:
                    self._delivery.tokens(record, tokens)
                    self._figures.tokens += len(tokens.token_ids)
                    if first:
                        self._figures.first(record)
            case cmd.Start():
                self._start(command)
            case cmd.Pause(worker=worker, batch=batch, by=by):
                self._metrics.paused()
                self._workers.pause(worker, batch)
                self._spans.paused(self._running(worker, batch), by)
            case cmd.Resume(worker=worker, batch=batch):
                self._workers.resume(worker, batch)
                self._spans.resumed(self._running(worker, batch))
            case cmd.Stop(worker=worker, assignment=assignment):
                self._workers.stop(worker, assignment)
            case cmd.Settle():
                self._settle(command)
            case cmd.Requeued(request_id=request_id, reason=reason, code=code):
                record = self._ledger[request_id]
                record.waiting_since_s = time.time()
                self._spans.requeued(record, reason, worker=record.worker, code=code)
                self._metrics.retried(record)
                log.warning(
                    "request.requeued",
                    request_id=request_id,
                    trace_id=record.trace.trace_id,
                    reason=reason,
                    worker=record.worker,
                    tokens=len(record.tokens),
                )
            case cmd.Regrouped(request_id=request_id):
                record = self._ledger[request_id]
                record.waiting_since_s = time.time()
                self._spans.regrouped(record)
                self._metrics.regrouped(record)
            case cmd.Release(request_id=request_id, losses=losses):
                record = self._ledger[request_id]
                record.losses = losses
                self._spawn(self._finish(record, partial(self._give_back, record)), f"release {request_id}")
            case cmd.LetGo(request_id=request_id):
                self._outcomes.let_go(self._ledger[request_id], "another router has it")
            case cmd.Pull(queue=queue, count=count):
                self._queues.pull(queue, count)
            case cmd.WakeAt(at_s=at_s):
                self._wake_at(at_s)
            case _:
                assert_never(command)

    def _running(self, worker: str, batch: int) -> Iterator[Record]:
        """The records of a batch's members that still run there."""
        for request_id in self._workers.members_of(worker, batch):
            if (record := self._ledger.get(request_id)) is not None:
                yield record

    def _start(self, command: cmd.Start) -> None:
        entries = []
        now_s = time.time()
        worker = self._workers.name_of(command.worker)
        for assignment in command.assignments:
            record = self._ledger[assignment.request_id]
            record.attempts = assignment.attempt
            record.worker = worker
            record.place = None
            record.resumptions += bool(record.tokens)
            if record.assigned_s is None:
                record.assigned_s = now_s
                self._metrics.assigned(record, now_s)
            self._spans.scheduled(
                record,
                batch=command.batch,
                worker=worker,
                lane=command.lane,
                size=len(command.assignments),
            )
            entries.append(
                BatchEntry(
                    assignment=assignment.number,
                    request_id=record.id,
                    attempt=assignment.attempt,
                    prompt=record.prompt,
                    generated=tuple(record.tokens),
                    max_tokens=record.max_tokens,
                    stop=record.request.stop,
                    trace=record.trace,
                    texts=record.texts,
                    target_prefix=record.target_prefix,
                )
            )
        for assignment in command.assignments:  # after all of them: who goes along did not go before
            self._waits.started(self._ledger[assignment.request_id])
        if command.static_tokens:
            self._statics.started(command.model, len(entries), command.static_tokens, kept=command.kept)
        batch = StartBatch(
            batch=command.batch,
            lane=command.lane,
            model=command.model,
            sampling=command.sampling,
            static_tokens=command.static_tokens,
            entries=tuple(entries),
        )
        self._metrics.started(batch)
        self._workers.start(command.worker, batch)

    def _settle(self, command: cmd.Settle) -> None:
        record = self._ledger[command.request_id]
        outcome = record.outcome(
            command.kind, time.time(), finish_reason=command.finish_reason, failure=command.failure
        )
        if command.vectors:
            outcome = replace(outcome, vectors=command.vectors)
        if record.shadow_of is None:
            self._figures.ended(record, outcome)
            self._rollouts.ended(record, outcome, command.losses)
        self._spawn(
            self._finish(record, partial(self._end, record, outcome, command.dead)), f"settle {record.id}"
        )

    async def _end(self, record: Record, outcome: Outcome, dead: bool) -> None:
        await self._outcomes.settle(record, outcome, dead=dead)
        await self._shadows.copy(record, outcome)

    async def _give_back(self, record: Record) -> None:
        record.hold = Hold.RELEASED
        self._ownership.keep(record, record.hand_over())
        # First the tokens, then the message: whoever gets that goes on after them.
        await self._delivery.hand_on(record)
        await self._outcomes.release(record)

    async def _finish(self, record: Record, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Does the last thing to a request, if it is still this router's. Where that fails by a fault of ours, the
        request is let go, and the broker delivers it again.
        """
        try:
            if await self._leases.is_ours(record):
                await last()
            else:
                self._outcomes.let_go(record, "another router has it")
        except Exception as error:
            log.error("request.not_settled", request_id=record.id, kind=type(error).__name__, exc_info=error)
            self._outcomes.let_go(record, "it could not be settled")
        self.tell(Settled(request_id=record.id))

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        # As many tasks as requests are held: the core counts them until they are settled.
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(
                "conductor.task_failed", task=task.get_name(), kind=type(error).__name__, exc_info=error
            )

    def abandon(self) -> None:
        """Ends what is still being settled: the broker delivers those requests again."""
        for task in self._tasks:
            task.cancel()

    def _wake_at(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(at_s, self.tell, Woke())

    # A gateway told what its clients hold.

    def catch_up(self, link: GatewayLink, request_ids: tuple[str, ...]) -> None:
        """Sends a gateway what its clients miss: of running requests the rest so far, of ended ones the end."""
        elsewhere = []
        for request_id in request_ids:
            had = link.held.get(request_id)
            if had is None:
                continue
            record = self._ledger.find(had.tenant, request_id)
            if record is None:
                elsewhere.append(had)
            elif record.prepared:  # else intake comes to it when it has the prompt
                record.followers.add(link.gateway_id)
                link.greet(record, self.place(record))
                link.bring_in_step(record)
        if elsewhere:
            self._spawn(self._answer_from_results(link, elsewhere), f"catch up {link.gateway_id}")

    def follow_no_more(self, gateway_id: str, request_ids: tuple[str, ...]) -> None:
        """No client of the gateway waits for these."""
        for request_id in request_ids:
            if (record := self._ledger.get(request_id)) is not None:
                record.followers.discard(gateway_id)

    async def _answer_from_results(self, link: GatewayLink, streams: list[HeldStream]) -> None:
        """The requests that nobody runs here may have ended while the gateway was away."""
        for had in streams:
            durable = await self._outcomes.find(had.tenant, had.request_id)
            if durable is not None and had.request_id in link.held:
                link.finished(durable.outcome, durable.outcome.output)
