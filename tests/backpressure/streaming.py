"""Streams that are read token by token, with what they showed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from headrace.client.client import HeadraceClient
from headrace.contract.values import Accepted, Outcome, TokenChunk

PATIENCE_S = 90.0
"""For anything to happen, on a machine with much else to do."""


@dataclass(slots=True)
class Read:
    """A stream as its client read it: fails at a gap or a repeat."""

    request_id: str = ""
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    chunks: int = 0
    longest_stall_s: float = 0.0
    outcome: Outcome | None = None
    _last_s: float = field(default_factory=time.monotonic)
    _grown: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, event: object) -> None:
        if isinstance(event, Accepted):
            self.request_id = event.request_id
        elif isinstance(event, TokenChunk):
            assert event.first_index == len(self.token_ids), "no gap, no repeat"
            self.token_ids.extend(event.token_ids)
            self.text += event.text
            self.chunks += 1
            now_s = time.monotonic()
            self.longest_stall_s = max(self.longest_stall_s, now_s - self._last_s)
            self._last_s = now_s
            self._grown.set()
        elif isinstance(event, Outcome):
            self.outcome = event
            self._grown.set()

    async def reaches(self, tokens: int) -> None:
        """Returns when so many tokens have come."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.token_ids) < tokens:
                assert self.outcome is None, f"it ended with {len(self.token_ids)} tokens"
                self._grown.clear()
                await self._grown.wait()


async def read_all(events: AsyncGenerator[Any, None], read: Read) -> Outcome:
    """Reads a stream to its outcome."""
    async with asyncio.timeout(PATIENCE_S), aclosing(events):
        async for event in events:
            read.take(event)
    assert read.outcome is not None, "the last event is the outcome"
    return read.outcome


async def stream(client: HeadraceClient, tokens: int, read: Read | None = None, **ask: Any) -> Read:
    """Asks for exactly so many tokens, and reads them all."""
    read = read or Read()
    events = client.generate(model="fake", prompt="count", max_tokens=tokens, ignore_end=True, **ask)
    outcome = await read_all(events, read)
    assert len(read.token_ids) == outcome.usage.output_tokens
    return read
