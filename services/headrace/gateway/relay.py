"""One request's tokens on their way to its client.

Tokens arrive when a router sends them and leave when the client takes them. A client that is slow gets what has arrived
meanwhile as one chunk: nobody else waits for it. The index of each token decides whether it is new, so that what a
second router sends again reaches the client once.
"""

from __future__ import annotations

import asyncio
import io
from array import array
from collections import deque
from typing import TypeAlias

from headrace.contract.errors import HeadraceError
from headrace.contract.values import Outcome, OutcomeKind, QueuePosition, TokenChunk

Event: TypeAlias = "QueuePosition | TokenChunk | Outcome"

MAX_TOKENS = 4096
MAX_CHARACTERS = 512 * 1024
"""The most that is joined to one chunk, so that it fits a message: up to 4 bytes a character, 5 a token."""

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
        # What was not read yet: consecutive chunks, all of them also in the three above.
        self._unread: deque[TokenChunk] = deque()
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
        self._unread.append(new)
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
        position, self._position = self._position, None
        return position

    def _joined(self) -> TokenChunk:
        """The unread chunks as one, as many as fit a message."""
        first = self._unread.popleft()
        token_ids, texts, characters = list(first.token_ids), [first.text], len(first.text)
        while self._unread:
            later = self._unread[0]
            characters += len(later.text)
            if len(token_ids) + len(later.token_ids) > MAX_TOKENS or characters > MAX_CHARACTERS:
                break
            self._unread.popleft()
            token_ids += later.token_ids
            texts.append(later.text)
        return TokenChunk(first_index=first.first_index, token_ids=tuple(token_ids), text="".join(texts))

    def __repr__(self) -> str:
        unread = len(self._unread)
        return f"<Relay {self.next_index} tokens, {unread} unread chunks{', ended' if self.ended else ''}>"
