"""Whether the connection to NATS is there, and since when: for health checks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import Enum


class Link(Enum):
    """Whether there is a connection."""

    CONNECTING = "connecting"
    """Not yet: the first connection is being tried."""
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    """Lost; being tried again. What is published waits in a bounded buffer."""
    CLOSED = "closed"
    """Over: on our wish, or because the server refused us. It does not come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """The state of the connection since `since_s` (monotonic clock); `problem` is why it is not there."""

    link: Link
    since_s: float
    problem: str = ""


StateCallback = Callable[[LinkState], None]


class NatsHealth:
    """The last state of a connection, for health checks. `record` is the `on_state` of `connect` and the one writer."""

    def __init__(self) -> None:
        self.state = LinkState(link=Link.CONNECTING, since_s=time.monotonic())
        self._closed = asyncio.Event()
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<NatsHealth {self.state.link.value} for {time.monotonic() - self.state.since_s:.1f} s>"

    @property
    def connected(self) -> bool:
        return self.state.link is Link.CONNECTED

    def record(self, state: LinkState) -> None:
        self.state = state
        self._changed.set()
        if state.link is Link.CLOSED:
            self._closed.set()

    async def changes(self) -> AsyncIterator[LinkState]:
        """Each new state from now on; where several follow fast, the last of them. For one reader."""
        self._changed.clear()
        while True:
            await self._changed.wait()
            self._changed.clear()
            yield self.state

    async def wait_closed(self) -> None:
        """Returns when the connection is over for good; `state.problem` says why."""
        await self._closed.wait()
