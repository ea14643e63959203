"""What waits to be sent to the router."""

from __future__ import annotations

import asyncio

from headrace.contract.values import TokenChunk, Vector
from headrace.contract.work import (
    BatchEnded,
    ComingModel,
    EntryEnd,
    EntryProgress,
    ServedModel,
    WorkerMessage,
)

MAX_TOKENS = 16_384
"""Tokens in one message: well below the largest that gRPC takes, whatever the tokens' text."""
TOKEN_BYTES = 64
"""So many bytes of vectors count as a token: a message has at most a MiB of them, or those of one entry."""


class _Pending:
    """What one assignment has made since the last message."""

    __slots__ = ("end", "first_index", "texts", "token_ids", "vectors")

    def __init__(
        self, first_index: int, token_ids: list[int], texts: list[str], end: EntryEnd | None
    ) -> None:
        """`texts` has one for each token: a chunk may be cut behind any."""
        self.first_index = first_index
        self.token_ids = token_ids
        self.texts = texts
        self.end = end
        self.vectors: tuple[Vector, ...] = ()

    @property
    def size(self) -> int:
        """What it takes of a message, in tokens."""
        return len(self.token_ids) + sum(map(len, self.vectors)) // TOKEN_BYTES

    def chunk(self) -> TokenChunk | None:
        if not self.token_ids:
            return None
        return TokenChunk(
            first_index=self.first_index,
            token_ids=tuple(self.token_ids),
            text="".join(self.texts),
            text_lengths=tuple(map(len, self.texts)) if len(self.texts) > 1 else (),
        )

    def cut(self, count: int) -> _Pending:
        """Keeps the first `count` tokens, and gives back the others and the end."""
        rest = _Pending(self.first_index + count, self.token_ids[count:], self.texts[count:], self.end)
        del self.token_ids[count:], self.texts[count:]
        self.end = None
        return rest


class Outbox:
    """Merges whatever is ready into one message, and never waits for more.

    Bounded by design: one chunk for each live assignment, which its own max_tokens bounds, and one end for each
    lane. When the router is slow the chunks grow up to there; a lane's next batch comes only after the router has
    heard of its last one. Used on the event loop alone.
    """

    def __init__(self) -> None:
        self._pending: dict[int, _Pending] = {}
        self._ended: list[BatchEnded] = []
        self._spans = b""
        self._draining = False
        self._came: dict[str, ServedModel] = {}
        self._went: dict[str, None] = {}
        self._coming: tuple[ComingModel, ...] | None = None
        self._freed: list[int] = []
        self._closed = False
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        """Entries of which something waits."""
        return len(self._pending)

    def __repr__(self) -> str:
        return f"<Outbox: {len(self._pending)} entries, {len(self._ended)} batches ended>"

    def add_token(self, assignment: int, index: int, token_id: int, text: str) -> None:
        """A token with its index in the output; it follows the one before without a gap."""
        pending = self._pending.get(assignment)
        if pending is not None:
            pending.token_ids.append(token_id)
            pending.texts.append(text)
            return
        if not self._pending:
            self._ready.set()
        self._pending[assignment] = _Pending(index, [token_id], [text], None)

    def add_end(self, assignment: int, end: EntryEnd) -> None:
        """The entry's end, after its last token."""
        pending = self._pending.get(assignment)
        if pending is not None:
            pending.end = end
        else:
            self._pending[assignment] = _Pending(0, [], [], end)
        self._ready.set()

    def add_vectors(self, assignment: int, vectors: tuple[Vector, ...], end: EntryEnd) -> None:
        """The vectors of an entry's texts, and its end."""
        pending = self._pending[assignment] = _Pending(0, [], [], end)
        pending.vectors = vectors
        self._ready.set()

    def add_batch_ended(self, batch: int, lane: int) -> None:
        """The batch's end, after those of its entries."""
        self._ended.append(BatchEnded(batch=batch, lane=lane))
        self._ready.set()

    def add_spans(self, bundle: bytes) -> None:
        """Spans that have ended, once those before them are gone."""
        assert not self._spans, "one bundle waits at a time"
        self._spans = bundle
        self._ready.set()

    @property
    def has_spans(self) -> bool:
        """Whether spans wait that were brought before."""
        return bool(self._spans)

    def tell_came(self, model: ServedModel) -> None:
        """A model was loaded, or another version of one."""
        self._went.pop(model.name, None)
        self._came[model.name] = model
        self._ready.set()

    def tell_went(self, name: str) -> None:
        """A model is to be unloaded: no more batches of it."""
        self._came.pop(name, None)
        self._went[name] = None
        self._ready.set()

    def tell_coming(self, models: tuple[ComingModel, ...]) -> None:
        """All that is about to be loaded; of several before they are sent the last."""
        self._coming = models
        self._ready.set()

    def tell_freed(self, lane: int) -> None:
        """A lane has ended what a router before this one gave it."""
        self._freed.append(lane)
        self._ready.set()

    def tell_draining(self) -> None:
        """The worker takes no new batches."""
        self._draining = True
        self._ready.set()

    def close(self) -> None:
        """Nothing comes after this; `take` gives what is left, and then None."""
        self._closed = True
        self._ready.set()

    async def take(self, patience_s: float) -> WorkerMessage | None:
        """The next message; an empty one where nothing came for `patience_s`; None when closed and empty."""
        while not (self._pending or self._ended or self._has_news):
            if self._closed:
                return None
            self._ready.clear()
            try:
                async with asyncio.timeout(patience_s):
                    await self._ready.wait()
            except TimeoutError:
                return WorkerMessage()
        progress = self._take_progress()
        # A batch's end comes after all that its entries made: not while some of that is left.
        ended: tuple[BatchEnded, ...] = ()
        if not self._pending:
            ended, self._ended = tuple(self._ended), []
        draining, self._draining = self._draining, False
        came, self._came = tuple(self._came.values()), {}
        went, self._went = tuple(self._went), {}
        coming, self._coming = self._coming, None
        spans, self._spans = self._spans, b""
        freed, self._freed = tuple(self._freed), []
        return WorkerMessage(
            progress=progress,
            ended=ended,
            draining=draining,
            came=came,
            went=went,
            coming=coming,
            spans=spans,
            freed=freed,
        )

    @property
    def _has_news(self) -> bool:
        """Whether anything waits but what batches made."""
        models = self._came or self._went or self._coming is not None
        return bool(self._draining or self._spans or self._freed or models)

    def _take_progress(self) -> tuple[EntryProgress, ...]:
        waiting, self._pending = self._pending, {}
        taken: list[EntryProgress] = []
        room = MAX_TOKENS
        for assignment, pending in waiting.items():
            if pending.size > room:
                if pending.vectors and not taken:
                    room = pending.size  # they cannot be cut: a message of their own
                else:
                    self._pending[assignment] = pending.cut(room) if room and pending.token_ids else pending
                    if not (room and pending.token_ids):
                        continue
            room -= pending.size
            taken.append(
                EntryProgress(
                    assignment=assignment, tokens=pending.chunk(), end=pending.end, vectors=pending.vectors
                )
            )
        return tuple(taken)

    def reset(self) -> None:
        """Forgets everything and is open again: the router that it was for is gone."""
        self._pending.clear()
        self._ended.clear()
        self._spans = b""
        self._came.clear()
        self._went.clear()
        self._coming = None
        self._freed.clear()
        self._draining = self._closed = False
