"""What happens to a NATS connection, as one state and one line of log per change; and how long each try waits."""

from __future__ import annotations

import random
import time
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Server

from headrace.runtime.nats_problem import problem_of
from headrace.runtime.nats_reconnect import ReconnectingClient
from headrace.runtime.nats_state import Link, LinkState, StateCallback
from headrace.runtime.settings import NatsSettings

log = structlog.get_logger(__name__)

_DROPS_TOLD_EVERY_S = 10.0  # the library reports each dropped message; a flood of lines would not help


def backoff_s(settings: NatsSettings, attempt: int) -> float:
    """Seconds to wait after failed attempt number `attempt` (1, 2, …): doubled each time, less up to half by chance."""
    # 2**16 is beyond every longest wait; an unbounded exponent would overflow after days.
    most = min(settings.reconnect_max_wait_s, settings.reconnect_wait_s * 2.0 ** min(attempt - 1, 16))
    return most * (1 - random.random() / 2)


class LinkWatch:
    """Turns the library's callbacks into one state and one line of log per change. Written on the event loop alone."""

    def __init__(self, settings: NatsSettings, on_state: StateCallback) -> None:
        self._settings = settings
        self._on_state = on_state
        self._link = Link.CONNECTING
        self._since_s = time.monotonic()
        self._problem = ""
        self._failed = 0
        self._drops = 0
        self._drops_told_s = float("-inf")
        self.first = True
        self.leaving = False
        self.client: ReconnectingClient | None = None

    def change(self, link: Link, problem: str = "") -> None:
        """Says it once: nothing happens where the state stays as it is."""
        if (link, problem) == (self._link, self._problem):
            return
        if link is Link.CONNECTED:
            log.info(
                f"connected to NATS at {self._settings.shown}",
                after_s=round(time.monotonic() - self._since_s, 2),
                failed_attempts=self._failed,
            )
            self._failed = 0
        elif link is Link.DISCONNECTED and self._link is Link.CONNECTED:
            log.warning(f"the connection to NATS at {self._settings.shown} is lost: {problem}; reconnecting")
        elif link is Link.CLOSED and not self.leaving:
            log.error(f"NATS at {self._settings.shown} ended the connection for good: {problem}")
        if link is not self._link:
            self._since_s = time.monotonic()
        self._link, self._problem = link, problem
        self._on_state(LinkState(link=link, since_s=self._since_s, problem=problem))

    def not_reachable(self, problem: str, wait_s: float) -> None:
        """An attempt failed. Only the first of its kind is told: the others would say the same."""
        self._failed += 1
        if problem != self._problem:
            log.warning(
                f"NATS at {self._settings.shown} is not reachable: {problem}; retrying in {wait_s:.1g} s"
            )
        self.change(Link.CONNECTING if self.first else Link.DISCONNECTED, problem)

    async def on_error(self, error: Exception) -> None:
        if self.first:
            # Ends this attempt. The library would otherwise go on by itself, without back-off and without end.
            raise error
        if isinstance(error, nats.errors.SlowConsumerError):
            self._dropped(error.subject)
        elif isinstance(error, nats.errors.StaleConnectionError) or self._is_being_lost():
            pass  # told by on_disconnected, which follows
        elif self._link is Link.CONNECTED:
            log.warning(f"NATS reports: {problem_of(error)}")
        else:
            self.not_reachable(problem_of(error), backoff_s(self._settings, self._failed + 1))

    def _is_being_lost(self) -> bool:
        return self._link is Link.CONNECTED and self.client is not None and self.client.is_reconnecting

    def _dropped(self, subject: str) -> None:
        """A subscription's buffer was full, and a message was dropped here."""
        self._drops += 1
        now_s = time.monotonic()
        if now_s - self._drops_told_s >= _DROPS_TOLD_EVERY_S:
            log.error(
                "NATS messages were dropped: a subscription is too slow", subject=subject, dropped=self._drops
            )
            self._drops, self._drops_told_s = 0, now_s

    async def on_disconnected(self) -> None:
        if self.client is None or self.leaving or self.first:
            return
        if not self.client.is_closed:  # else on_closed follows and tells more
            lost_by = self.client.lost_by
            self.change(
                Link.DISCONNECTED, problem_of(lost_by) if lost_by is not None else "it closed the connection"
            )
        self.client.fail_requests()

    async def on_closed(self) -> None:
        if not self.leaving and not self.first:
            error = self.client.last_error if self.client else None
            self.change(Link.CLOSED, problem_of(error) if error else "no reason given")

    async def on_reconnected(self) -> None:
        self.change(Link.CONNECTED)

    def next_server(self, servers: list[Server], info: dict[str, Any]) -> tuple[Server, float]:
        """Whom to try next, and after how long: the one that failed least often. The first try waits a moment too,
        so that all clients of a restarted server do not come in the same millisecond.
        """
        if self.client is not None:
            self.client.drop()  # what an attempt before this one has left
        server = min(servers, key=lambda s: s.reconnects)
        return server, backoff_s(self._settings, server.reconnects + 1)
