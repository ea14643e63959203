"""Keeps a worker joined to its router."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from headrace.contract.errors import Unavailable
from headrace.runtime.backoff import Backoff
from headrace.runtime.shutdown import Shutdown
from headrace.worker.crew import Crew
from headrace.worker.outbox import Outbox
from headrace.worker.session import Session, first_of

log = structlog.get_logger(__name__)


class Link:
    """Opens a session, and another when it has ended, until `shutdown` is requested.

    A stream that breaks ends all batches: their requests go on elsewhere, and this worker joins again with all
    lanes free. The log has one line for each change between joined and away, however many tries there are.
    """

    def __init__(
        self,
        open_session: Callable[[Callable[[str], None]], Session],
        crew: Crew,
        outbox: Outbox,
        *,
        router: str,
        backoff: Backoff,
        shutdown: Shutdown,
        about: dict[str, Any],
    ) -> None:
        """`open_session(joined)` opens a stream to the router at `router`. `about` is what the log says of this
        worker.
        """
        self._open_session = open_session
        self._crew = crew
        self._outbox = outbox
        self._router = router
        self._backoff = backoff
        self._shutdown = shutdown
        self._about = about
        self._told_away = False

    async def run(self) -> None:
        """Returns when this worker has left. All lanes are free then."""
        while not self._shutdown.draining:
            try:
                await self._open_session(self._joined).run()
            except* Unavailable as lost:
                self._away(str(lost.exceptions[0]))
            finally:
                self._crew.abandon()
                await self._crew.idle()
                self._outbox.reset()
            if not self._shutdown.draining:
                await first_of(self._shutdown.requested(), asyncio.sleep(self._backoff.next_s()))
        log.info("worker.left", router=self._router)

    def _joined(self, router_id: str) -> None:
        self._backoff.reset()
        self._told_away = False
        log.info("worker.joined", router=self._router, router_id=router_id, **self._about)

    def _away(self, problem: str) -> None:
        if not self._told_away:
            self._told_away = True
            log.warning(
                "router.away", router=self._router, problem=problem, remedy="trying again until it is back"
            )
