"""All lanes and models of a worker: starts, pauses and cancels batches."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import structlog
from opentelemetry.trace import Tracer

from headrace.contract.errors import EngineFailed, HeadraceError, Unavailable, UnknownModel
from headrace.contract.work import StartBatch
from headrace.worker.batch import Batch
from headrace.worker.embed_batch import EmbedBatch
from headrace.worker.gate import Gate
from headrace.worker.held_batch import refuse_batch
from headrace.worker.lane import Lane
from headrace.worker.metrics import WorkerMetrics
from headrace.worker.outbox import Outbox
from headrace.worker.serving import ServingModel
from headrace.worker.spans import BatchTrace
from headrace.worker.speeds import Speeds

log = structlog.get_logger(__name__)

AnyBatch: TypeAlias = "Batch | EmbedBatch"


class Crew:
    """Runs what the router says, and says in the outbox what came of it. Has no queue: a lane is free or it is not.
    Of the batches on the lanes as many run as the gate has slots; the router says which, by pausing others.

    A batch that was abandoned may hold the engine for a while, as nothing interrupts a prefill: the next router is told
    so as this worker joins it, and hears when the lane is free. One that is too old to understand that may send a batch
    for the lane, which begins then. `_running` holds the batches of the router that is joined, by lane,
    from `start` to their end; `_abandoned` those of one that is gone, at most one per lane. Used on the event loop
    alone.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        models: Mapping[str, ServingModel],
        outbox: Outbox,
        gate: Gate,
        *,
        max_batch: int,
        piece_tokens: int = 512,
        name: str,
        tracer: Tracer | None,
        metrics: WorkerMetrics,
        speeds: Speeds | None = None,
    ) -> None:
        """`tracer`: None with telemetry off. `name` is the worker's, for traces. `piece_tokens`: of the texts that are
        embedded at once.
        """
        self._lanes = lanes
        self._models = models
        self._outbox = outbox
        self._gate = gate
        self._max_batch = max_batch
        self._piece_tokens = piece_tokens
        self._name = name
        self._tracer = tracer
        self._metrics = metrics
        self._speeds = speeds or Speeds()
        self._running: dict[int, AnyBatch] = {}
        self._abandoned: dict[int, AnyBatch] = {}
        self._by_assignment: dict[int, AnyBatch] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._ended = asyncio.Event()
        """Set whenever a batch has ended."""

    def __repr__(self) -> str:
        return f"<Crew: {', '.join(map(repr, self._lanes))}>"

    def busy(self) -> tuple[int, int]:
        """How many lanes have a batch of the router's, and how many of these are paused."""
        return len(self._running), sum(batch.paused for batch in self._running.values())

    @property
    def abandoned_lanes(self) -> tuple[int, ...]:
        """The lanes that still compute for a router that is gone: to be told in a join. When one of them is free the
        outbox says so.
        """
        return tuple(sorted(self._abandoned))

    def start(self, start: StartBatch) -> None:
        """Runs a batch. One that breaks the contract is refused: each entry fails, and nothing else is touched."""
        try:
            lane, model = self._check(start)
        except HeadraceError as error:
            log.warning("batch.refused", batch=start.batch, entries=len(start.entries), problem=str(error))
            refuse_batch(start, error, self._outbox)
            return
        trace = (
            None if self._tracer is None else BatchTrace(self._tracer, start, self._name, model.served.task)
        )
        batch = self._batch(start, model, trace)
        if not batch.entries:
            batch.finish(None)
            return
        self._running[lane.index] = batch
        self._by_assignment.update((entry.assignment, batch) for entry in batch.entries)
        self._idle.clear()
        if lane.index not in self._abandoned:
            lane.start(batch, self._end)

    def pause(self, number: int) -> None:
        """Has a batch stand still from its next step on. One that is not running has ended already: nothing happens."""
        batch = self._find(number)
        if batch is not None:
            log.debug("batch.paused", batch=number, lane=batch.lane)
            batch.pause()

    def resume(self, number: int) -> None:
        """Has a batch go on, as soon as a slot is free. One that is not running has ended already: nothing happens."""
        batch = self._find(number)
        if batch is not None:
            log.debug("batch.resumed", batch=number, lane=batch.lane)
            batch.resume()

    def cancel(self, assignment: int) -> None:
        """Ends one entry within one step. One that is not running has ended already: nothing happens."""
        batch = self._by_assignment.get(assignment)
        if batch is not None:
            batch.cancel(assignment)

    def hand_back(self) -> None:
        """Ends all batches, and says of each entry that it is given back: it goes on elsewhere from its last token."""
        for batch in self._running.values():
            for entry in batch.entries:
                batch.cancel(entry.assignment)
        self.abandon()

    def abandon(self) -> None:
        """Ends all batches without a word to the router. A lane is free for another one as soon as its engine is."""
        for index, batch in self._running.items():
            batch.abandon()
            if index in self._abandoned:
                batch.finish(None)  # it waited for its lane
            else:
                self._abandoned[index] = batch
        self._running.clear()
        self._by_assignment.clear()
        self._idle.set()
        self._ended.set()

    async def idle(self) -> None:
        """Returns when nothing runs for the router."""
        await self._idle.wait()

    async def unused(self, model: ServingModel) -> None:
        """Returns when no lane runs a batch of `model`."""
        while any(batch.model is model for batch in (*self._running.values(), *self._abandoned.values())):
            self._ended.clear()
            await self._ended.wait()

    def _batch(self, start: StartBatch, model: ServingModel, trace: BatchTrace | None) -> AnyBatch:
        turn = self._gate.turn()
        if model.encoder is None:
            return Batch(start, model, self._outbox, trace, turn=turn, metrics=self._metrics)
        return EmbedBatch(
            start,
            model,
            model.encoder,
            self._outbox,
            trace,
            turn=turn,
            piece_tokens=self._piece_tokens,
            metrics=self._metrics,
        )

    def _find(self, number: int) -> AnyBatch | None:
        return next((batch for batch in self._running.values() if batch.id == number), None)

    def _check(self, start: StartBatch) -> tuple[Lane, ServingModel]:
        """The lane and the model that it is for. Raises Unavailable or UnknownModel."""
        model = self._models.get(start.model)
        if model is None:
            raise UnknownModel(start.model, tuple(self._models))
        if not 0 <= start.lane < len(self._lanes):
            raise Unavailable(f"lane {start.lane}", f"there are {len(self._lanes)} lanes")
        lane = self._lanes[start.lane]
        if lane.index in self._running:
            raise Unavailable(f"lane {start.lane}", "it runs another batch")
        if not 1 <= len(start.entries) <= self._max_batch:
            raise Unavailable(
                f"a batch of {len(start.entries)}", f"this worker takes 1 … {self._max_batch} entries"
            )
        sent = {entry.assignment for entry in start.entries}
        if len(sent) < len(start.entries) or not sent.isdisjoint(self._by_assignment):
            raise Unavailable("an assignment of the batch", "it runs already")
        return lane, model

    def _end(self, lane: int, failure: EngineFailed | None) -> None:
        self._ended.set()
        left = self._abandoned.pop(lane, None)
        if left is not None:
            left.finish(failure)
            self._outbox.tell_freed(lane)
            if (waiting := self._running.get(lane)) is not None:
                self._lanes[lane].start(waiting, self._end)
            return
        batch = self._running.pop(lane)
        for entry in batch.entries:
            del self._by_assignment[entry.assignment]
        batch.finish(failure)
        if failure is None:
            self._speeds.ran(batch.model.served, batch.tokens, batch.ran_s())
        if not self._running:
            self._idle.set()
