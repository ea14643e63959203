"""A batch of texts to embed on the event loop: its entries, from the router's command until its lane is free."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.contract.errors import EngineFailed, InvalidRequest
from headrace.contract.values import Failure, FinishReason
from headrace.contract.work import BatchEntry, EntryEnd, StartBatch
from headrace.worker.embedding import Embedded, Embedding, TextSlot
from headrace.worker.encoder import Encoder
from headrace.worker.gate import Turn
from headrace.worker.held_batch import HeldBatch
from headrace.worker.metrics import WorkerMetrics
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

    def finish(self, end: EntryEnd, outbox: Outbox) -> None:
        """Ends the entry, unless it has ended, and tells the router."""
        if self.end is None:
            self.conclude(end)
            outbox.add_end(self.assignment, end)

    def conclude(self, end: EntryEnd) -> None:
        """Ends the entry, unless it has ended, without a word to the router."""
        if self.end is None:
            self.end = end
            self.slot.halted = True
            if self.trace is not None:
                self.trace.end(end, 0)


class EmbedBatch(HeldBatch[TextEntry]):
    """A batch of texts; it is halted between the pieces that are embedded at once."""

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
        metrics: WorkerMetrics,
    ) -> None:
        super().__init__(start, outbox, trace, turn)
        self._model = start.model
        self._metrics = metrics
        self.model = model
        self.entries = self._open_entries(start, model)
        self.job = Embedding(
            encoder=encoder,
            slots=[entry.slot for entry in self.entries],
            turn=turn,
            piece_tokens=piece_tokens,
        )

    def take_step(self, made: Embedded) -> None:
        """The vectors of an entry."""
        entry, end = self.entries[made.index], EntryEnd(finish_reason=FinishReason.END)
        if entry.end is None:
            entry.conclude(end)
            self._outbox.add_vectors(entry.assignment, made.vectors, end)

    @property
    def tokens(self) -> int:
        """What it has worked in."""
        return self.job.done.tokens

    def finish(self, failure: EngineFailed | None) -> None:
        """The lane is free. Entries that have not ended failed."""
        super().finish(failure)
        if self.entries:
            self._metrics.embedded(self._model, self.job.done, self._began_s, failure)

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
                entry.finish(EntryEnd(failure=Failure.of(error)), self._outbox)
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
