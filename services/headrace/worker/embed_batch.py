"""A batch of texts to embed on the event loop: its entries, from the router's command until its lane is free."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.contract.errors import EngineFailed, InvalidRequest
from headrace.contract.values import FinishReason
from headrace.contract.work import BatchEntry, EntryEnd, StartBatch
from headrace.worker.batch import ENDED_EARLY, LEFT, failure_of
from headrace.worker.embedding import Embedded, Embedding, TextSlot
from headrace.worker.encoder import Encoder
from headrace.worker.gate import Turn
from headrace.worker.outbox import Outbox
from headrace.worker.serving import ServingModel
from headrace.worker.spans import BatchTrace, EntryTrace


@dataclass(slots=True, kw_only=True)
class TextEntry:
    """A live entry. The router hears of exactly one end, with the vectors where it completed.

    `slot.halted` is how the lane's thread hears that nobody wants them.
    """

    assignment: int
    slot: TextSlot
    trace: EntryTrace | None
    end: EntryEnd | None = None

    def conclude(self, end: EntryEnd) -> bool:
        """Ends the entry, unless it has ended, without a word to the router; whether it had not."""
        if self.end is not None:
            return False
        self.end = end
        self.slot.halted = True
        if self.trace is not None:
            self.trace.end(end, 0)
        return True


class EmbedBatch:
    """A batch that a lane runs; see `Batch`, beside which the crew holds it."""

    def __init__(
        self,
        start: StartBatch,
        model: ServingModel,
        encoder: Encoder,
        outbox: Outbox,
        trace: BatchTrace | None,
        *,
        turn: Turn,
        piece_tokens: int,
    ) -> None:
        self.id = start.batch
        self.lane = start.lane
        self.model = model
        self._outbox = outbox
        self._trace = trace
        self._turn = turn
        self._abandoned = False
        self.entries = self._open_entries(start, model)
        self.job = Embedding(
            encoder=encoder,
            slots=[entry.slot for entry in self.entries],
            turn=turn,
            piece_tokens=piece_tokens,
        )

    def __repr__(self) -> str:
        live = sum(entry.end is None for entry in self.entries)
        return f"<EmbedBatch {self.id} on lane {self.lane}: {live} of {len(self.entries)} entries live>"

    def take_step(self, made: Embedded) -> None:
        """The vectors of an entry."""
        entry, end = self.entries[made.index], EntryEnd(finish_reason=FinishReason.END)
        if entry.conclude(end):
            self._outbox.add_vectors(entry.assignment, made.vectors, end)

    @property
    def paused(self) -> bool:
        """Whether it is to stand still."""
        return self._turn.paused

    def pause(self) -> None:
        """Has the lane stand still from the next piece on."""
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
        """Ends one entry now; what is being computed of it is dropped."""
        for entry in self.entries:
            if entry.assignment == assignment:
                self._finish(entry, EntryEnd(cancelled=True))
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
            self._finish(entry, EntryEnd(failure=failure_of(failure or ENDED_EARLY)))
        if not self._abandoned:
            self._outbox.add_batch_ended(self.id, self.lane)
        if self._trace is not None:
            self._trace.end("" if failure is None else failure.code)

    def _finish(self, entry: TextEntry, end: EntryEnd) -> None:
        if entry.conclude(end):
            self._outbox.add_end(entry.assignment, end)

    def _release_if_over(self) -> None:
        if all(entry.end is not None for entry in self.entries):
            self._turn.release()

    def _open_entries(self, start: StartBatch, model: ServingModel) -> list[TextEntry]:
        entries: list[TextEntry] = []
        for sent in start.entries:
            trace = None if self._trace is None else self._trace.entry(sent)
            entry = TextEntry(
                assignment=sent.assignment, slot=TextSlot(index=len(entries), texts=sent.texts), trace=trace
            )
            try:
                _check(sent, model)
            except InvalidRequest as error:
                self._finish(entry, EntryEnd(failure=failure_of(error)))
            else:
                entries.append(entry)
        return entries


def _check(entry: BatchEntry, model: ServingModel) -> None:
    """Raises InvalidRequest where an entry cannot run."""
    if not entry.texts:
        raise InvalidRequest("texts", "are none: there is nothing to embed")
    for index, text in enumerate(entry.texts):
        if not 1 <= len(text) <= model.context_length:
            raise InvalidRequest(
                f"texts[{index}]", f"has {len(text)} tokens; must be 1 … {model.context_length}"
            )
        if max(text) >= model.vocab_size:
            raise InvalidRequest(
                f"texts[{index}]", f"holds a token id outside the vocabulary of {model.vocab_size}"
            )
