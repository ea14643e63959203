"""A client that follows a request which another call has published: by Attach, or by the same request again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from headrace.contract.errors import HeadraceError, Unavailable
from headrace.gateway.audience import Audience, Stream
from headrace.gateway.results import Results
from headrace.gateway.routers import Routers
from headrace.runtime.backoff import Backoff

log = structlog.get_logger(__name__)

LOOK_S = 300.0
"""How long one look for an outcome listens for it. Any length would do: it is followed by the next."""


@dataclass(slots=True)
class Look:
    """A search for an outcome. `done`: the broker has answered at least once."""

    done: bool = False


class Following:
    """Tells the routers of such clients, and looks for the outcomes of requests that no router speaks of."""

    def __init__(self, results: Results, routers: Routers, *, backoff: Callable[[], Backoff]) -> None:
        """`backoff` gives the pauses between one client's looks while the broker is away."""
        self._results = results
        self._routers = routers
        self._backoff = backoff

    @asynccontextmanager
    async def follow(self, stream: Stream) -> AsyncIterator[Look]:
        """While the block runs, the stream gets what there is and comes of its request, its end included.

        The router that has the request sends what the stream lacks; one that gets it later knows of the stream. Where
        none has it, the request may have ended, or may end before a router hears of the stream: its outcome is waited
        for until a router has spoken.
        """
        audience, look = stream.audience, Look()
        if stream.leads:
            self._routers.tell(stream.tenant, stream.request_id)
        looking: asyncio.Task[None] | None = None
        if audience.over:
            looking = asyncio.create_task(self._find(audience, look), name=f"outcome of {stream.request_id}")
        elif not audience.served.is_set():
            looking = asyncio.create_task(self._look(audience, look), name=f"look for {stream.request_id}")
        try:
            yield look
        finally:
            if looking is not None:
                looking.cancel()

    async def _look(self, audience: Audience, look: Look) -> None:
        """Returns when a router has spoken of the request, or its outcome has come."""
        finding = asyncio.create_task(self._find(audience, look), name=f"outcome of {audience.request_id}")
        serving = asyncio.create_task(audience.served.wait(), name=f"router of {audience.request_id}")
        try:
            await asyncio.wait({finding, serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            finding.cancel()
            serving.cancel()

    async def _find(self, audience: Audience, look: Look) -> None:
        backoff = self._backoff()
        while True:
            try:
                # The first look does not wait; what comes between it and the next is seen by that.
                wait_s = LOOK_S if look.done else 0.0
                outcome = await self._results.wait(audience.tenant, audience.request_id, wait_s)
            except Unavailable:
                await asyncio.sleep(backoff.next_s())
            except HeadraceError as error:
                log.warning("outcome.unreadable", request_id=audience.request_id, problem=str(error))
                return
            else:
                look.done = True
                backoff.reset()
                if outcome is not None:
                    audience.end(outcome)
                    return
