"""One request's tokens on their way to its client.

Tokens arrive when a router sends them and leave when the client takes them. While the client is slow, what arrives is
joined to one chunk: nothing else grows, nobody else waits. The index of each token decides whether it is new, so that
what a second router sends again reaches the client once.
"""

from __future__ import annotations

import asyncio
import io
from array import array
from typing import TypeAlias

from headrace.contract.errors import HeadraceError
from headrace.contract.values import Outcome, OutcomeKind, QueuePosition, TokenChunk

Event: TypeAlias = "QueuePosition | TokenChunk | Outcome"

_INSIDE_A_CHUNK = -1


class Relay:
    """Takes deliveries in any order that routers send them, and gives tokens with the indices 0, 1, 2, … each once.

    Bounded by the request's max_tokens: the tokens received are kept, as four bytes each with their text, for the
    router that may have to go on from them.
    """

    def __init__(self) -> None:
        self._token_ids = array("I")
        # The length of the text before each token, or _INSIDE_A_CHUNK. Same length as _token_ids.
        self._text_before = array("l")
        self._text = io.StringIO()
        self._text_length = 0
        self._pending: TokenChunk | None = None
        self._position: QueuePosition | None = None
        self._outcome: Outcome | None = None
        self._error: HeadraceError | None = None
        self._ready = asyncio.Event()

    @property
    def next_index(self) -> int:
        """The index of the first token that was not received yet."""
        return len(self._token_ids)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All that was received, from index 0."""
        return tuple(self._token_ids)

    @property
    def text(self) -> str:
        """The text of `token_ids`."""
        return self._text.getvalue()

    @property
    def ended(self) -> bool:
        """Whether the outcome has arrived; the client may not have seen it yet."""
        return self._outcome is not None

    def push(self, chunk: TokenChunk) -> bool:
        """Takes tokens. What is here already is cut off.

        False where they cannot follow what is here: tokens before them were lost. They are dropped, and `lacks` tells
        at the end that the durable outcome has to fill in.
        """
        if self._outcome is not None or chunk.next_index <= self.next_index:
            return True
        new = self._cut(chunk)
        if new is None:
            return False
        self._text_before.append(self._text_length)
        self._text_before.extend([_INSIDE_A_CHUNK] * (len(new.token_ids) - 1))
        self._token_ids.extend(new.token_ids)
        self._text.write(new.text)
        self._text_length += len(new.text)
        self._pending = new if self._pending is None else self._pending.joined(new)
        self._position = None  # it runs: its place in the queue is no news any more
        self._ready.set()
        return True

    def _cut(self, chunk: TokenChunk) -> TokenChunk | None:
        """The part of `chunk` from `next_index` on; None where it cannot be told."""
        if chunk.first_index == self.next_index:
            return chunk
        if chunk.first_index > self.next_index:
            return None
        text_before = self._text_before[chunk.first_index]
        if text_before == _INSIDE_A_CHUNK:
            return None  # which of its text is new cannot be told
        return TokenChunk(
            first_index=self.next_index,
            token_ids=chunk.token_ids[self.next_index - chunk.first_index :],
            text=chunk.text[self._text_length - text_before :],
        )

    def queued(self, position: QueuePosition) -> None:
        """Takes a new place in the queue; the latest counts."""
        if self._outcome is None and self._pending is None:
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

    def lacks(self, outcome: Outcome) -> bool:
        """Whether tokens of a completed generation never arrived here."""
        return outcome.kind is OutcomeKind.COMPLETED and outcome.usage.output_tokens > self.next_index

    def rest_of(self, whole: Outcome) -> TokenChunk | None:
        """What of the whole outcome never arrived here; None where `whole` does not go on from what did."""
        seen = self.next_index
        if whole.token_ids[:seen] != self.token_ids or len(whole.token_ids) == seen:
            return None
        return TokenChunk(
            first_index=seen, token_ids=whole.token_ids[seen:], text=whole.text[self._text_length :]
        )

    async def read(self) -> Event:
        """Waits for the next event, and gives all tokens that are there as one chunk. Nothing follows an outcome."""
        while (event := self.take()) is None:
            if self._error is not None:
                raise self._error
            self._ready.clear()
            await self._ready.wait()
        return event

    def take(self) -> Event | None:
        """The next event if there is one: tokens before the outcome."""
        if self._pending is not None:
            chunk, self._pending = self._pending, None
            return chunk
        if self._outcome is not None:
            return self._outcome
        position, self._position = self._position, None
        return position

    def __repr__(self) -> str:
        waiting = len(self._pending.token_ids) if self._pending else 0
        return f"<Relay {self.next_index} tokens, {waiting} unread{', ended' if self.ended else ''}>"
