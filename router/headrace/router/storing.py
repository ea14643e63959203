"""Storing what must not be lost: outcomes and dead letters, for as long as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog
from nats.errors import ConnectionReconnectingError
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError

from headrace.runtime.backoff import Backoff
from headrace.runtime.nats_refusal import Refusal, may_lack_stream, refusal_of
from headrace.runtime.nats_state import NatsHealth

log = structlog.get_logger(__name__)

ATTEMPT_S = 5.0
"""How long one attempt waits for the broker: it answers within milliseconds, or it is in trouble."""
FIRST_WAIT_S = 0.1
"""The wait after the first failed attempt; doubled, with jitter, up to `router.result_retry_max_wait_s`."""

_PART = "results"


class Storing:
    """Publishes messages until the broker has them. While it takes none, one message at a time is tried and the others
    wait for their turn, so that thousands that wait for room cost as little as one.

    Bounded by what waits: the requests that the router holds, each with its place among them.
    """

    def __init__(
        self, js: JetStreamContext, *, health: NatsHealth, missed: Callable[[], None], max_wait_s: float
    ) -> None:
        """`missed` is called where no stream takes a message."""
        self._js = js
        self._health = health
        self._missed = missed
        self._backoff = Backoff(FIRST_WAIT_S, max_wait_s)
        self._problem = ""
        """Why the last attempt failed. Empty: it did not."""
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Storing {self._problem or 'works'}>"

    async def store(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str],
        failed: Callable[[], None] = lambda: None,
    ) -> bool:
        """Returns when the stream has the message: True, or False where it had one already that excludes it.

        `failed` is called after each attempt that failed.
        """
        while True:
            await self._health.wait_connected()
            if self._problem:
                async with self._turn:
                    if self._problem:
                        await asyncio.sleep(self._backoff.next_s())
                        await self._health.wait_connected()
                        stored = await self._try(subject, body, headers)
                    else:
                        stored = None  # it works again: no turns
            else:
                stored = await self._try(subject, body, headers)
            if stored is not None:
                return stored
            failed()

    async def _try(self, subject: str, body: bytes, headers: Mapping[str, str]) -> bool | None:
        """None where it failed."""
        try:
            ack = await self._js.publish(subject, body, headers=dict(headers))
        except ConnectionReconnectingError:
            return None  # the connection was lost under it
        except (NatsError, TimeoutError, OSError) as error:
            refusal = refusal_of(error)
            if refusal is Refusal.SUBJECT_FULL:
                self._works()
                return False
            if may_lack_stream(error):
                self._missed()
            self._failed(subject, refusal.value if refusal else _named(error))
            return None
        self._works()
        return not ack.duplicate

    def _failed(self, subject: str, problem: str) -> None:
        if problem != self._problem:
            log.warning("outcome.not_stored", subject=subject, problem=problem)
        self._problem = problem
        if self._health.connected:  # else that is the trouble, and known
            self._health.trouble(_PART, f"cannot be stored: {problem}")

    def _works(self) -> None:
        if self._problem:
            log.info("outcome.stored_again", after=self._problem)
        self._problem = ""
        self._backoff.reset()
        self._health.fine(_PART)


def _named(error: Exception) -> str:
    return f"{type(error).__name__} {error.err_code}" if isinstance(error, APIError) else type(error).__name__
