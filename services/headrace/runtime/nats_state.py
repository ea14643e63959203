"""Whether the broker is there and does what it is for: for health checks, and for those who wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import Enum

import structlog

log = structlog.get_logger(__name__)

BROKER_HEALTH = "headrace.broker"
"""The name under which a process's grpc.health.v1 tells whether the broker is there, has its streams, and stores."""


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
    """The last state of a connection, and the troubles of the broker behind it.

    Writers: `record` is the `on_state` of `connect`; each part that the broker fails writes its own trouble.
    """

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        """`on_change` is called after each change of the connection or of the troubles."""
        self.state = LinkState(link=Link.CONNECTING, since_s=time.monotonic())
        self.connections = 0
        """How often there was a new connection: what was open on an earlier one is forgotten by the server."""
        self.away_s = 0.0
        """How long there was none before the present one, if there was one before."""
        self._lost_s: float | None = None
        self._on_change = on_change
        self._troubles: dict[str, str] = {}
        self._over: dict[str, asyncio.TimerHandle] = {}
        self._connected = asyncio.Event()
        self._closed = asyncio.Event()
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        since_s = time.monotonic() - self.state.since_s
        troubles = "".join(f", {part}: {problem}" for part, problem in self._troubles.items())
        return f"<NatsHealth {self.state.link.value} for {since_s:.1f} s{troubles}>"

    @property
    def connected(self) -> bool:
        return self.state.link is Link.CONNECTED

    @property
    def sound(self) -> bool:
        """Whether it is connected, and nothing that the broker is asked for fails."""
        return self.connected and not self._troubles

    @property
    def troubles(self) -> int:
        """How many things that the broker is asked for fail now."""
        return len(self._troubles)

    def record(self, state: LinkState) -> None:
        if state.link is Link.CONNECTED and not self.connected:
            self.connections += 1
            if self._lost_s is not None:
                self.away_s, self._lost_s = state.since_s - self._lost_s, None
        elif state.link is Link.DISCONNECTED and self._lost_s is None:
            self._lost_s = state.since_s
        self.state = state
        if self.connected:
            self._connected.set()
        else:
            self._connected.clear()
        if state.link is Link.CLOSED:
            self._closed.set()
        self._tell()

    def trouble(self, part: str, problem: str, *, for_s: float | None = None) -> None:
        """`part` is what the broker does not do now, until `fine`, or for `for_s` seconds where only its next use would
        tell. Said once in the log, however often it is found.
        """
        if (timer := self._over.pop(part, None)) is not None:
            timer.cancel()
        if for_s is not None:
            self._over[part] = asyncio.get_running_loop().call_later(for_s, self.fine, part)
        if self._troubles.get(part) != problem:
            log.error("broker.trouble", part=part, problem=problem)
            self._troubles[part] = problem
            self._tell()

    def fine(self, part: str) -> None:
        """The broker does it again, as far as is known."""
        if (timer := self._over.pop(part, None)) is not None:
            timer.cancel()
        if self._troubles.pop(part, None) is not None:
            log.info("broker.trouble_over", part=part)
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._on_change()

    async def changes(self) -> AsyncIterator[None]:
        """Now, and after each change; once where several follow fast. For one reader."""
        while True:
            self._changed.clear()
            yield
            await self._changed.wait()

    async def wait_connected(self) -> None:
        """Returns when there is a connection. Never, where it is over for good: the process ends then."""
        await self._connected.wait()

    async def wait_closed(self) -> None:
        """Returns when the connection is over for good; `state.problem` says why."""
        await self._closed.wait()
