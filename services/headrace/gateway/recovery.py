"""Ends the requests whose outcome was stored, but got lost on its way here together with the router that sent it.

A router stores an outcome, sends it to the gateway, and acknowledges the request. If it dies after that, the broker
sends the request to nobody else; the outcome in the store is then the only word of its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from headrace.contract.errors import HeadraceError, Unavailable
from headrace.gateway.audience import Audience
from headrace.gateway.results import Results
from headrace.runtime.backoff import Backoff

log = structlog.get_logger(__name__)


class Recovery:
    """Looks up the outcomes of requests that lost their router. Those without one wait for the router that takes over.

    Bounded by the number of requests that clients here wait for. Writers: `check` adds, `run` takes away.
    """

    def __init__(self, results: Results, *, backoff: Backoff) -> None:
        """`backoff` gives the pauses between looks while the broker is away."""
        self._results = results
        self._backoff = backoff
        self._audiences: dict[str, Audience] = {}
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Recovery of {len(self._audiences)} requests>"

    def check(self, audiences: Iterable[Audience]) -> None:
        """Has the outcomes of these looked up."""
        self._audiences.update((audience.request_id, audience) for audience in audiences)
        self._wake.set()

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for request_id, audience in list(self._audiences.items()):
                try:
                    await self._end_if_over(audience)
                except Unavailable:
                    await asyncio.sleep(self._backoff.next_s())
                    self._wake.set()
                    break
                self._backoff.reset()
                self._audiences.pop(request_id, None)

    async def _end_if_over(self, audience: Audience) -> None:
        if audience.ended:
            return
        try:
            outcome = await self._results.find(audience.tenant, audience.request_id)
        except Unavailable:
            raise
        except HeadraceError as error:
            log.warning("outcome.unreadable", request_id=audience.request_id, problem=str(error))
            return
        if outcome is not None:
            audience.end(outcome)
