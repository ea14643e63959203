"""One request's tokens on their way to one client.

Tokens arrive when a router sends them and leave when the client takes them. A client that is slow gets what has arrived
meanwhile as one chunk: nobody else waits for it. The index of each token decides whether it is new, so that what a
second router sends again reaches the client once. A chunk can be cut behind any of its tokens, text and all.
"""

from __future__ import annotations

import asyncio
import io
from array import array
from collections import deque
from collections.abc import Iterator
from typing import TypeAlias

from headrace.contract.errors import HeadraceError
from headrace.contract.values import Outcome, OutcomeKind, QueuePosition, TokenChunk

Event: TypeAlias = "QueuePosition | TokenChunk | Outcome"

MAX_TOKENS = 4096
MAX_CHARACTERS = 512 * 1024
"""The most that is joined to one chunk, so that it fits a message: up to 4 bytes a character, 8 a token."""


class Relay:
    """Takes deliveries in any order that routers send them, and gives the tokens from `first_index` on, each once.

    Bounded by the request's max_tokens: the tokens received are kept, as eight bytes each with their text, for the
    router that may have to go on from them.
    """

    def __init__(self, first_index: int = 0) -> None:
        """`first_index` is the first token that the client wants."""
        self.first_index = first_index
        self._token_ids = array("I")
        # How many characters of the text each token completed. Same length as _token_ids.
        self._text_lengths = array("I")
        self._text = io.StringIO()
        # What was not read yet: consecutive chunks, all of them also in the three above. Empty where nobody reads.
        self._unread: deque[TokenChunk] = deque()
        self._position: QueuePosition | None = None
        self._outcome: Outcome | None = None
        self._error: HeadraceError | None = None
        self._read_by_nobody = False
        self._ready = asyncio.Event()

    @property
    def next_index(self) -> int:
        """The index of the first token that was not received yet."""
        return self.first_index + len(self._token_ids)

    @property
    def output(self) -> TokenChunk | None:
        """All that was received, from `first_index` on; None where that is nothing."""
        if not self._token_ids:
            return None
        return TokenChunk(
            first_index=self.first_index,
            token_ids=tuple(self._token_ids),
            text=self._text.getvalue(),
            text_lengths=tuple(self._text_lengths),
        )

    @property
    def ended(self) -> bool:
        """Whether the outcome has arrived; the client may not have seen it yet."""
        return self._outcome is not None

    def push(self, chunk: TokenChunk) -> bool:
        """Takes tokens. What is here already, or lies before `first_index`, is cut off.

        False where they cannot follow what is here: tokens before them were lost. They are dropped, and `lacks` tells
        at the end that the durable outcome has to fill in.
        """
        if chunk.first_index > self.next_index:
            return False
        new = chunk.since(self.next_index)
        if new is not None and new.token_ids and self._outcome is None:
            self._token_ids.extend(new.token_ids)
            self._text_lengths.extend(new.lengths)
            self._text.write(new.text)
            if not self._read_by_nobody:
                self._unread.extend(pieces_of(new))
            self._position = None  # it runs: its place in the queue is no news any more
            self._ready.set()
        return True

    def queued(self, position: QueuePosition) -> None:
        """Takes a new place in the queue; the latest counts."""
        if self._outcome is None and not self._unread:
            self._position = position
            self._ready.set()

    def finish(self, outcome: Outcome) -> None:
        """Takes the end. The first counts, and nothing is taken after it."""
        if self._outcome is None:
            self._outcome = outcome
            self._ready.set()

    def fail(self, error: HeadraceError) -> None:
        """Makes the reader raise `error` once it has read what is there, unless the outcome comes before."""
        self._error = error
        self._ready.set()

    def leave(self) -> None:
        """The client has left. What it had stays, and what comes is kept with it."""
        self._read_by_nobody = True
        self._unread.clear()

    def lacks(self, outcome: Outcome) -> bool:
        """Whether tokens of a completed generation never arrived here."""
        return outcome.kind is OutcomeKind.COMPLETED and outcome.usage.output_tokens > self.next_index

    def rest_of(self, whole: Outcome) -> TokenChunk | None:
        """What of the whole outcome never arrived here; None where `whole` does not go on from what did."""
        output, first, seen = whole.output, self.first_index, self.next_index
        if output is None or output.token_ids[first:seen] != tuple(self._token_ids):
            return None
        return output.since(seen)

    async def read(self) -> Event:
        """Waits for the next event; all tokens that are there come as one chunk. Nothing follows an outcome."""
        while (event := self.take()) is None:
            if self._error is not None:
                raise self._error
            self._ready.clear()
            await self._ready.wait()
        return event

    def take(self) -> Event | None:
        """The next event if there is one: tokens before the outcome."""
        if self._unread:
            return self._joined()
        if self._outcome is not None:
            return self._outcome
        return self.take_position()

    def take_position(self) -> QueuePosition | None:
        """The place in the queue, if it is the next event."""
        position, self._position = self._position, None
        return position

    def _joined(self) -> TokenChunk:
        """The unread chunks as one, as many as fit a message."""
        first = self._unread.popleft()
        if not self._unread:
            return first
        token_ids, lengths, texts = list(first.token_ids), list(first.lengths), [first.text]
        characters = len(first.text)
        while self._unread:
            later = self._unread[0]
            characters += len(later.text)
            if len(token_ids) + len(later.token_ids) > MAX_TOKENS or characters > MAX_CHARACTERS:
                break
            self._unread.popleft()
            token_ids += later.token_ids
            lengths += later.lengths
            texts.append(later.text)
        return TokenChunk(
            first_index=first.first_index,
            token_ids=tuple(token_ids),
            text="".join(texts),
            text_lengths=tuple(lengths),
        )

    def __repr__(self) -> str:
        unread = len(self._unread)
        return f"<Relay to {self.next_index}, {unread} unread chunks{', ended' if self.ended else ''}>"


def pieces_of(chunk: TokenChunk) -> Iterator[TokenChunk]:
    """`chunk` in pieces that fit a message each: an outcome's whole output comes as one."""
    if len(chunk.token_ids) <= MAX_TOKENS and len(chunk.text) <= MAX_CHARACTERS:
        yield chunk
        return
    lengths, begin, at = chunk.lengths, 0, 0
    while begin < len(lengths):
        end, characters = begin, 0
        while end < len(lengths) and end - begin < MAX_TOKENS:
            if end > begin and characters + lengths[end] > MAX_CHARACTERS:
                break
            characters += lengths[end]
            end += 1
        yield TokenChunk(
            first_index=chunk.first_index + begin,
            token_ids=chunk.token_ids[begin:end],
            text=chunk.text[at : at + characters],
            text_lengths=lengths[begin:end],
        )
        begin, at = end, at + characters
