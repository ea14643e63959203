"""Ends the streams of requests that are cancelled elsewhere while no router has them.

A router tells the gateways of the requests that it ends. One that waits in its queue is ended by the gateway that is
asked to, and nobody tells the others; but all of them can hear that it is asked.
"""

from __future__ import annotations

import asyncio

import structlog
from nats.aio.client import Client

from headrace.contract.errors import HeadraceError, InvalidRequest
from headrace.contract.subjects import CANCEL_WILDCARD, parse_cancel
from headrace.gateway.audience import Audience
from headrace.gateway.results import Results
from headrace.gateway.streams import Streams

log = structlog.get_logger(__name__)

STORED_S = 5.0
"""How long an outcome is waited for: whoever cancels asks the routers first, for `gateway.cancel_wait_s`."""

# Cancellations that wait to be read: some hundred bytes each. When they are full the newest are lost, and those streams
# end when a router comes upon their requests.
_PENDING = 4096


class Hearing:
    """Listens to cancellations. At most one look for an outcome per request that clients here wait for."""

    def __init__(self, nc: Client, results: Results, streams: Streams) -> None:
        self._nc = nc
        self._results = results
        self._streams = streams
        self._looking: set[str] = set()

    async def run(self) -> None:
        """Works until it is cancelled."""
        heard = await self._nc.subscribe(CANCEL_WILDCARD, pending_msgs_limit=_PENDING)
        try:
            async with asyncio.TaskGroup() as tasks:
                async for message in heard.messages:
                    audience = self._concerned(message.subject)
                    if audience is not None:
                        self._looking.add(audience.request_id)
                        tasks.create_task(self._look(audience), name=f"end of {audience.request_id}")
        finally:
            if not self._nc.is_closed:
                await heard.unsubscribe()

    def _concerned(self, subject: str) -> Audience | None:
        """The clients here of the request that is cancelled, if no router will tell them."""
        try:
            audience = self._streams.find(*parse_cancel(subject))
        except InvalidRequest:
            return None
        if audience is None or audience.served.is_set() or audience.request_id in self._looking:
            return None
        return audience

    async def _look(self, audience: Audience) -> None:
        try:
            outcome = await self._results.wait(audience.tenant, audience.request_id, STORED_S)
        except HeadraceError as error:
            log.info("outcome.not_found", request_id=audience.request_id, problem=str(error))
        else:
            if outcome is not None:
                audience.end(outcome)
        finally:
            self._looking.discard(audience.request_id)
