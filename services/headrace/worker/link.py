"""Keeps a worker joined to a router, whichever lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import structlog

from headrace.contract.errors import Unavailable
from headrace.runtime.backoff import Backoff
from headrace.runtime.shutdown import Shutdown
from headrace.worker.crew import Crew
from headrace.worker.outbox import Outbox
from headrace.worker.routers import Routers
from headrace.worker.session import Session, first_of

log = structlog.get_logger(__name__)

STEADY_S = 1.0
"""A stream that was joined for so long did work: when it ends, every router is worth a try at once. One that breaks
sooner counts as a try that failed, or two routers that both break it would be asked without a pause."""

DRAINED_S = 10.0
"""A router that drained is expected to be back within this, or another to be there; sooner, its absence is no news."""


class Link:
    """Opens a session, and another with the next router when it has ended, until `shutdown` is requested.

    A stream that breaks ends all batches: their requests go on elsewhere, and this worker joins another at once, and
    says which lanes still compute. The log has one line for each change between joined and away, however many tries
    there are.
    Writers: `run` and what it calls.
    """

    def __init__(
        self,
        open_session: Callable[[str, Callable[[str], None]], AbstractAsyncContextManager[Session]],
        crew: Crew,
        outbox: Outbox,
        *,
        routers: Routers,
        backoff: Backoff,
        shutdown: Shutdown,
        about: Mapping[str, Any],
    ) -> None:
        """`open_session(address, joined)` opens a stream to a router. `about` is what the log says of this worker."""
        self._open_session = open_session
        self._crew = crew
        self._outbox = outbox
        self._routers = routers
        self._backoff = backoff
        self._shutdown = shutdown
        self._about = about
        self._router_id = ""
        self._joined_s = 0.0
        self._told_away = False
        self._quiet_until_s = 0.0

    async def run(self) -> None:
        """Returns when this worker has left."""
        while not self._shutdown.draining:
            address = self._routers.next()
            if address is not None:
                await self._serve(address)
                continue
            await first_of(self._shutdown.requested(), asyncio.sleep(self._backoff.next_s()))
            self._routers.anew()
        log.info("worker.left")

    async def _serve(self, address: str) -> None:
        """One stream, from its beginning to its end."""
        self._router_id, drained, problem = "", False, ""
        try:
            async with self._open_session(
                address, lambda router_id: self._joined(address, router_id)
            ) as session:
                try:
                    await session.run()
                finally:
                    drained = session.router_drains
        except* Unavailable as lost:
            problem = str(lost.exceptions[0])
        finally:
            self._crew.abandon()
            self._outbox.reset()
        now_s = _now()
        if drained:
            self._quiet_until_s = now_s + DRAINED_S
        if self._router_id and now_s - self._joined_s >= STEADY_S:
            self._backoff.reset()
            self._routers.left(address, self._router_id)
        if problem and not self._shutdown.draining:
            self._away(address, problem)

    def _joined(self, address: str, router_id: str) -> None:
        self._router_id, self._joined_s, self._told_away = router_id, _now(), False
        log.info("worker.joined", router=address, router_id=router_id, **self._about)

    def _away(self, address: str, problem: str) -> None:
        if not self._told_away and _now() >= self._quiet_until_s:
            self._told_away = True
            remedy = "joining another" if self._routers.many else "trying again until it is back"
            log.warning("router.away", router=address, problem=problem, remedy=remedy)


def _now() -> float:
    return asyncio.get_running_loop().time()
