"""Ends the streams whose outcome was stored, but got lost on its way here together with the router that sent it.

A router stores an outcome, sends it to the gateway, and acknowledges the request. If it dies after that, the broker
sends the request to nobody else; the outcome in the store is then the only word of its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from headrace.contract.errors import HeadraceError, Unavailable
from headrace.gateway.results import Results
from headrace.gateway.streams import Stream
from headrace.runtime.backoff import Backoff

log = structlog.get_logger(__name__)


class Recovery:
    """Looks up the outcomes of streams that lost their router. Those without one wait for the router that takes over.

    Bounded by the number of streams. Writers: `check` adds, `run` takes away.
    """

    def __init__(self, results: Results, *, backoff: Backoff) -> None:
        """`backoff` gives the pauses between looks while the broker is away."""
        self._results = results
        self._backoff = backoff
        self._streams: dict[str, Stream] = {}
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Recovery of {len(self._streams)} streams>"

    def check(self, streams: Iterable[Stream]) -> None:
        """Has the outcomes of these looked up."""
        self._streams.update((stream.request_id, stream) for stream in streams)
        self._wake.set()

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for request_id, stream in list(self._streams.items()):
                try:
                    await self._end_if_over(stream)
                except Unavailable:
                    await asyncio.sleep(self._backoff.next_s())
                    self._wake.set()
                    break
                self._backoff.reset()
                self._streams.pop(request_id, None)

    async def _end_if_over(self, stream: Stream) -> None:
        if stream.relay.ended:
            return
        try:
            outcome = await self._results.find(stream.tenant, stream.request_id)
        except Unavailable:
            raise
        except HeadraceError as error:
            log.warning("outcome.unreadable", request_id=stream.request_id, problem=str(error))
            return
        if outcome is not None:
            stream.relay.finish(outcome)
