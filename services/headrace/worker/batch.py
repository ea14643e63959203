"""A batch on the event loop: its entries, from the router's command until its lane is free."""

from __future__ import annotations

from collections.abc import Iterator

import structlog

from headrace.contract.errors import EngineFailed, InvalidRequest
from headrace.contract.values import Failure
from headrace.contract.work import EntryEnd, StartBatch
from headrace.worker.decode import Decode
from headrace.worker.entry import Entry, open_entry
from headrace.worker.gate import Turn
from headrace.worker.held_batch import HeldBatch
from headrace.worker.lockstep import Way
from headrace.worker.metrics import WorkerMetrics
from headrace.worker.outbox import Outbox
from headrace.worker.serving import ServingModel
from headrace.worker.spans import BatchTrace
from headrace.worker.steps import Slot, Step
from headrace.worker.translation import Translation

log = structlog.get_logger(__name__)

_NO_TEXT = EngineFailed("what it made cannot be turned into text")


class Batch(HeldBatch[Entry]):
    """A batch that a lane runs. Whatever its entries make goes to the outbox, and at last that the lane is free.

    Entries that cannot run, or have nothing left to make, are answered at once; `entries` are the others, fixed from
    the start.
    """

    def __init__(
        self,
        start: StartBatch,
        model: ServingModel,
        outbox: Outbox,
        trace: BatchTrace | None,
        *,
        turn: Turn,
        metrics: WorkerMetrics,
    ) -> None:
        super().__init__(start, outbox, trace, turn)
        self._model = start.model
        self._metrics = metrics
        self.model = model
        self.tokens = 0
        """What it made."""
        self.entries = self._open_entries(start, model)
        slots = [entry.slot for entry in self.entries]
        self.job: Decode | Translation
        if model.translator is not None:
            self.job = Translation(
                translator=model.translator, sampling=start.sampling, slots=slots, turn=turn
            )
        else:
            self.job = Decode(
                engine=model.engine,
                sampling=start.sampling,
                slots=slots,
                turn=turn,
                static_tokens=start.static_tokens,
            )

    def take_step(self, step: Step) -> None:
        """What the engine made in one step."""
        self.tokens += len(step)
        entries, outbox = self.entries, self._outbox
        self._metrics.made(self._model, len(step))
        if self._trace is not None:
            self._trace.tokens += len(step)
        for index, token_id in step:
            try:
                entries[index].take(token_id, outbox)
            except Exception:
                # A token that the tokeniser does not know, say: nobody else's entry suffers for it.
                log.exception("entry.failed", batch=self.id, assignment=entries[index].assignment)
                entries[index].finish(EntryEnd(failure=Failure.of(_NO_TEXT)), outbox)
        if not self._turn.goes:
            # A stop string, say, may have ended the last entry while the lane stands still.
            self._release_if_over()

    def finish(self, failure: EngineFailed | None) -> None:
        """The lane is free. Entries that have not ended failed."""
        super().finish(failure)
        if self.entries:
            self._metrics.ended(self._model, self._ways(), self._began_s, failure)

    def _ways(self) -> Iterator[Way]:
        slots = [entry.slot for entry in self.entries]
        worked_in = self.job.worked_in if isinstance(self.job, Translation) else _prompt_of
        return (
            Way(prompt=worked_in(slot), made=entry.made)
            for slot, entry in zip(slots, self.entries, strict=True)
        )

    def _open_entries(self, start: StartBatch, model: ServingModel) -> list[Entry]:
        entries: list[Entry] = []
        for sent in start.entries:
            trace = None if self._trace is None else self._trace.entry(sent)
            try:
                opened = open_entry(
                    sent, len(entries), model, ignore_end=start.sampling.ignore_end, trace=trace
                )
            except InvalidRequest as error:
                opened = EntryEnd(failure=Failure.of(error))
            if isinstance(opened, Entry):
                entries.append(opened)
            else:
                self._outbox.add_end(sent.assignment, opened)
                if trace is not None:
                    trace.end(opened, 0)
        return entries


def _prompt_of(slot: Slot) -> int:
    return len(slot.prompt)
