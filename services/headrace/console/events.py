"""The stream to one page: server-sent events, each with all that is new to it.

A page that reads slowly holds up its own stream alone, at what the connection's buffer takes: the next event is made
when the last one has gone, and skips what came in between. One that reads nothing at all is cut off.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from headrace.console.live import Live

STALLED_S = 30.0
"""How long one event may wait to be taken."""
BYTES_PER_S = 400_000
"""What one page is sent at most on the average: with hundreds of workers in motion two states a second, not four."""
RETRY_MS = 1000
"""How soon a browser comes back when its stream has ended."""


class EventStreams:
    """An ASGI application: a stream for each page that asks, up to `max_clients` at once."""

    def __init__(
        self, live: Live, *, max_clients: int, ending: asyncio.Event, stalled_s: float = STALLED_S
    ) -> None:
        """`ending` is set when the process is to end: then the streams do, too."""
        self._live = live
        self._max_clients = max_clients
        self._ending = ending
        self._stalled_s = stalled_s
        self.open = 0
        """Streams that are open now."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One page."""
        if self.open >= self._max_clients:
            refusal = PlainTextResponse(
                "too many pages are open; console.max_clients says how many may be\n",
                status_code=503,
                headers={"retry-after": "5"},
            )
            await refusal(scope, receive, send)
            return
        self.open += 1
        sending = asyncio.create_task(self._send(send), name="console: events")
        gone = asyncio.create_task(_gone(receive), name="console: a page")
        ending = asyncio.create_task(self._ending.wait(), name="console: end")
        try:
            await asyncio.wait({sending, gone, ending}, return_when=asyncio.FIRST_COMPLETED)
            if (
                sending.done()
                and (error := sending.exception())
                and not isinstance(error, OSError | TimeoutError)
            ):
                raise error
        finally:
            self.open -= 1
            for task in (sending, gone, ending):
                task.cancel()
            await asyncio.wait({sending, gone, ending})
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # else nginx keeps events until it has many
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._event(send, f"retry: {RETRY_MS}\n\n")
        seen, points = 0, 0
        while True:
            await self._live.after(seen)
            number, latest = self._live.number, self._live.series.number
            message = self._live.message(seen, points)
            await self._event(send, f"data: {message}\n\n")
            seen, points = number, latest
            await asyncio.sleep(len(message) / BYTES_PER_S)

    async def _event(self, send: Send, text: str) -> None:
        async with asyncio.timeout(self._stalled_s):
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _gone(receive: Receive) -> None:
    """Returns when the page has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
