"""A batch on the event loop: its entries, from the router's command until its lane is free."""

from __future__ import annotations

import time
from collections.abc import Iterator

import structlog

from headrace.contract.errors import EngineFailed, HeadraceError, InvalidRequest, Unavailable
from headrace.contract.values import Failure
from headrace.contract.work import EntryEnd, StartBatch
from headrace.worker.decode import Decode
from headrace.worker.entry import Entry, open_entry
from headrace.worker.gate import Turn
from headrace.worker.lockstep import Way
from headrace.worker.metrics import WorkerMetrics
from headrace.worker.outbox import Outbox
from headrace.worker.serving import ServingModel
from headrace.worker.spans import BatchTrace
from headrace.worker.steps import Step
from headrace.worker.translation import Translation

log = structlog.get_logger(__name__)

ENDED_EARLY = EngineFailed("it ended the entry before its end")
_NO_TEXT = EngineFailed("what it made cannot be turned into text")
LEFT = Unavailable("worker", "left before the end")


class Batch:
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
        self._model = start.model
        self._metrics = metrics
        self._began_s = time.monotonic()
        self.id = start.batch
        self.model = model
        self.tokens = 0
        """What it made."""
        self._began_s = time.monotonic()
        self.lane = start.lane
        self._outbox = outbox
        self._trace = trace
        self._abandoned = False
        self.entries = self._open_entries(start, model)
        self._turn = turn
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

    def __repr__(self) -> str:
        live = sum(entry.end is None for entry in self.entries)
        paused = ", paused" if self._turn.paused else ""
        return f"<Batch {self.id} on lane {self.lane}: {live} of {len(self.entries)} entries live{paused}>"

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
                entries[index].finish(EntryEnd(failure=failure_of(_NO_TEXT)), outbox)
        if (
            not self._turn.goes
        ):  # a stop string, say, may have ended the last entry while the lane stands still
            self._release_if_over()

    def ran_s(self) -> float:
        """How long it has been there, pauses included."""
        return time.monotonic() - self._began_s

    def pause(self) -> None:
        """Has the lane stand still from the next step on; what it has made until then still comes."""
        self._turn.pause()
        if self._trace is not None:
            self._trace.pause()
        self._release_if_over()

    def resume(self) -> None:
        """Has it go on."""
        self._turn.resume()
        if self._trace is not None:
            self._trace.resume()

    def cancel(self, assignment: int) -> None:
        """Ends one entry now; the engine hears of it within one step, of the last one though it is paused."""
        for entry in self.entries:
            if entry.assignment == assignment:
                entry.finish(EntryEnd(cancelled=True), self._outbox)
        self._release_if_over()

    def abandon(self) -> None:
        """Ends all entries without a word to the router, which learns it from the end of the stream."""
        self._abandoned = True
        for entry in self.entries:
            entry.conclude(EntryEnd(failure=failure_of(LEFT)))
        self._release_if_over()

    def finish(self, failure: EngineFailed | None) -> None:
        """The lane is free. Entries that have not ended failed."""
        for entry in self.entries:
            entry.finish(EntryEnd(failure=failure_of(failure or ENDED_EARLY)), self._outbox)
        if not self._abandoned:
            self._outbox.add_batch_ended(self.id, self.lane)
        if self.entries:
            self._metrics.ended(self._model, self._ways(), self._began_s, failure)
        if self._trace is not None:
            self._trace.end("" if failure is None else failure.code)

    @property
    def paused(self) -> bool:
        """Whether it is to stand still."""
        return self._turn.paused

    def _ways(self) -> Iterator[Way]:
        return (Way(prompt=len(entry.slot.prompt), made=entry.made) for entry in self.entries)

    def _release_if_over(self) -> None:
        """Nobody waits for it any more: its lane is to be free."""
        if all(entry.end is not None for entry in self.entries):
            self._turn.release()

    def _open_entries(self, start: StartBatch, model: ServingModel) -> list[Entry]:
        entries: list[Entry] = []
        for sent in start.entries:
            trace = None if self._trace is None else self._trace.entry(sent)
            try:
                opened = open_entry(
                    sent, len(entries), model, ignore_end=start.sampling.ignore_end, trace=trace
                )
            except InvalidRequest as error:
                opened = EntryEnd(failure=failure_of(error))
            if isinstance(opened, Entry):
                entries.append(opened)
            else:
                self._outbox.add_end(sent.assignment, opened)
                if trace is not None:
                    trace.end(opened, 0)
        return entries


def refuse_batch(start: StartBatch, error: HeadraceError, outbox: Outbox) -> None:
    """Answers a batch that is not run: every entry failed with `error`, and the batch has ended."""
    for entry in start.entries:
        outbox.add_end(entry.assignment, EntryEnd(failure=failure_of(error)))
    outbox.add_batch_ended(start.batch, start.lane)


def failure_of(error: HeadraceError) -> Failure:
    """`error` as it crosses the wire."""
    return Failure(code=error.code, message=str(error), field=getattr(error, "field", ""))
