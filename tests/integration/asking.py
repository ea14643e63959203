"""Clients that ask one request after another while the broker is hurt, and what became of each request."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from headrace.client.client import HeadraceClient
from headrace.contract.errors import HeadraceError, Overloaded, Unavailable
from headrace.contract.values import Accepted, Outcome, OutcomeKind, TokenChunk

RESULT_WAIT_S = 60.0
"""For the outcomes of all that was accepted, after the broker is well again, on a loaded machine."""


@dataclass(slots=True)
class Refused:
    """A request that was not accepted, or whose stream broke."""

    error: HeadraceError
    took_s: float


@dataclass(slots=True)
class Asking:
    """`clients` streams side by side, each of `tokens` tokens, one after another until the block is left. Checks that
    every stream has each index once, and in the end that every accepted request has an outcome.
    """

    client: HeadraceClient
    clients: int = 3
    tokens: int = 20
    accepted: dict[str, Outcome | None] = field(default_factory=dict)
    """By request id: the outcome, once known."""
    refused: list[Refused] = field(default_factory=list)
    broken: list[Refused] = field(default_factory=list)
    """Streams of accepted requests that ended in an error."""
    _stopping: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _begun: asyncio.Event = field(default_factory=asyncio.Event)
    streaming: int = 0
    """Streams that have begun and not ended."""

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._ask_on()) for _ in range(self.clients)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()
        if kind is not None:
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=kind is not None)

    def stop(self) -> None:
        """No stream is begun any more; those that run go on."""
        self._stopping = True

    async def submit(self, count: int, tokens: int = 0) -> None:
        """Submits so many requests that nobody waits for."""
        for _ in range(count):
            accepted = await self.client.submit(
                model="fake", prompt="p", max_tokens=tokens or self.tokens, ignore_end=True
            )
            self.accepted[accepted.request_id] = None

    async def submit_somehow(self, count: int) -> None:
        """Submits so many requests, each again while it is refused."""
        while count:
            try:
                await self.submit(1)
                count -= 1
            except Unavailable as error:
                self.refused.append(Refused(error, 0.0))
                await asyncio.sleep(0.05)

    async def some_end(self, count: int) -> None:
        """Returns when so many more streams have ended well."""
        for _ in range(count):
            self._ended.clear()
            async with asyncio.timeout(RESULT_WAIT_S):
                await self._ended.wait()

    async def all_stream(self) -> None:
        """Returns when every client has a stream that has begun."""
        async with asyncio.timeout(RESULT_WAIT_S):
            while self.streaming < self.clients:
                self._begun.clear()
                await self._begun.wait()

    async def outcomes(self) -> list[Outcome]:
        """Of all that was accepted, each read from its durable result. Fails where one has none."""
        found = []
        for request_id, streamed in self.accepted.items():
            outcome = await self.client.result(request_id, wait_s=RESULT_WAIT_S)
            if streamed is not None:
                assert outcome.kind is streamed.kind, "the stream and the result tell the same"
            found.append(outcome)
        return found

    async def all_completed(self) -> None:
        """Every accepted request has an outcome, and a good one; what was refused was refused with a reason."""
        assert not self.broken
        assert {outcome.kind for outcome in await self.outcomes()} == {OutcomeKind.COMPLETED}
        for refused in self.refused:
            assert isinstance(refused.error, Unavailable | Overloaded), refused

    async def _ask_on(self) -> None:
        while not self._stopping:
            await self._ask()

    async def _ask(self) -> None:
        request_id, ids, began_s = "", 0, time.monotonic()
        try:
            async for event in self.client.generate(
                model="fake", prompt="p", max_tokens=self.tokens, ignore_end=True
            ):
                if isinstance(event, Accepted):
                    request_id = event.request_id
                    self.accepted[request_id] = None
                elif isinstance(event, TokenChunk):
                    assert event.first_index == ids, "no gap, no repeat"
                    if not ids:
                        self.streaming += 1
                        self._begun.set()
                    ids += len(event.token_ids)
                elif isinstance(event, Outcome):
                    assert ids == self.tokens
                    self.accepted[request_id] = event
                    self._ended.set()
        except HeadraceError as error:
            (self.broken if request_id else self.refused).append(Refused(error, time.monotonic() - began_s))
            await asyncio.sleep(0.05)  # a client that is refused does not come back at once
        finally:
            if ids:
                self.streaming -= 1
