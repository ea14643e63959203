"""One entry of a batch on the event loop: from its tokens to what the router is told."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from headrace.contract.errors import InvalidRequest
from headrace.contract.values import FinishReason
from headrace.contract.work import BatchEntry, EntryEnd
from headrace.worker.outbox import Outbox
from headrace.worker.serving import ServingModel
from headrace.worker.spans import EntryTrace
from headrace.worker.steps import Slot
from headrace.worker.text import EntryText


@dataclass(slots=True, kw_only=True)
class Entry:
    """A live entry. The router hears of exactly one end, after the last token.

    `slot.halted` is how the lane's thread hears that the entry has ended; it ends it there within one step, and
    what it made until then is dropped here. All other fields are written by the methods, on the event loop.
    """

    assignment: int
    slot: Slot
    text: EntryText
    first_index: int
    """Of the first token that is made here."""
    next_index: int
    trace: EntryTrace | None
    """None with telemetry off."""
    end: EntryEnd | None = None

    @property
    def made(self) -> int:
        """Tokens that this attempt made."""
        return self.next_index - self.first_index

    def take(self, token_id: int, outbox: Outbox) -> None:
        """A token from the engine."""
        if self.end is not None:
            return
        text, finish = self.text.push(token_id)
        outbox.add_token(self.assignment, self.next_index, token_id, text)
        if self.next_index == self.first_index and self.trace is not None:
            self.trace.first_token()
        self.next_index += 1
        if finish is not None:
            self.finish(EntryEnd(finish_reason=finish), outbox)

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
                self.trace.end(end, self.next_index - self.first_index)


def open_entry(
    entry: BatchEntry, index: int, model: ServingModel, *, ignore_end: bool, trace: EntryTrace | None
) -> Entry | EntryEnd:
    """The live entry of what the router sent, what earlier attempts made being replayed.

    Its end instead, where they left nothing to make. Raises InvalidRequest where the entry cannot run.
    """
    limit = _limit(entry, model)
    end_ids: Collection[int] = () if ignore_end else model.end_ids
    text = EntryText(model.new_detokeniser(), stop=entry.stop, end_ids=end_ids, limit=limit)
    # Whatever ended the output came with the text of its last token, so that nothing is left to tell but the end.
    finish = text.replay(entry.generated)
    if finish is None and len(entry.generated) >= limit:
        finish = FinishReason.LENGTH
    if finish is not None:
        return EntryEnd(finish_reason=finish)
    left = limit - len(entry.generated)
    if model.translator is None:
        slot = Slot(index=index, prompt=entry.prompt + entry.generated, left=left)
    else:
        slot = Slot(index=index, prompt=entry.prompt, prefix=entry.target_prefix + entry.generated, left=left)
    return Entry(
        assignment=entry.assignment,
        slot=slot,
        text=text,
        first_index=len(entry.generated),
        next_index=len(entry.generated),
        trace=trace,
    )


def _limit(entry: BatchEntry, model: ServingModel) -> int:
    """The most tokens of the output: the request's own, and what the context has room for."""
    if not entry.prompt:
        raise InvalidRequest("prompt", "is empty: an entry has at least one token")
    for field, ids in (
        ("prompt", entry.prompt),
        ("generated", entry.generated),
        ("target_prefix", entry.target_prefix),
    ):
        if ids and max(ids) >= model.vocab_size:
            raise InvalidRequest(field, f"holds a token id outside the vocabulary of {model.vocab_size}")
    # A model that translates has a context for the text, and another one for the output.
    translates = model.translator is not None
    if len(entry.prompt) >= model.context_length + translates:
        raise InvalidRequest(
            "prompt",
            f"is {len(entry.prompt)} tokens long; the model's context of {model.context_length} has no room left",
        )
    taken = entry.target_prefix if translates else entry.prompt
    return min(entry.max_tokens, model.context_length - len(taken))
