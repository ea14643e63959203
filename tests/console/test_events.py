"""The stream to a page: bounded, and a slow page skips to the newest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from headrace.console.events import EventStreams
from headrace.console.live import Live
from headrace.console.picture import Picture
from tests.console.test_picture import ROUTER

LIMIT_S = 20.0


class Reader:
    """A page at the other end of an ASGI connection; takes an event only when it is told to."""

    def __init__(self, streams: EventStreams) -> None:
        self._streams = streams
        self._sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue(maxsize=1)
        self._left = asyncio.Event()

    async def _receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Reader]:
        # One message may wait: what a connection's buffer takes.
        task = asyncio.create_task(self._streams({"type": "http"}, self._receive, self._sent.put))  # type: ignore[arg-type]
        try:
            yield self
        finally:
            self._left.set()
            while not task.done():
                if not self._sent.empty():
                    self._sent.get_nowait()
                await asyncio.wait({task}, timeout=0.05)
            task.result()

    async def message(self) -> dict[str, Any]:
        async with asyncio.timeout(LIMIT_S):
            return await self._sent.get()

    async def event(self) -> Any:
        while True:
            body = (await self.message()).get("body", b"").decode()
            if body.startswith("data: "):
                return json.loads(body[6:])


def live() -> Live:
    picture = Picture(lambda: 1000.0)
    picture.router_is(ROUTER)
    made = Live(picture)
    made.beat(0.0)
    return made


async def test_a_slow_page_gets_the_newest_state_and_no_other() -> None:
    """While it reads nothing, a hundred states are made and none is kept for it; then it has the latest."""
    source = live()
    streams = EventStreams(source, max_clients=4, ending=asyncio.Event())
    async with Reader(streams).open() as page:
        assert (await page.event())["state"]["full"]
        for held in range(1, 101):
            source.picture.router_is(replace(ROUTER, held=held))
            source.beat(held / 4)
            await asyncio.sleep(0)
        read = 0
        latest: Any = None
        while latest is None or latest["state"]["number"] < source.number:
            latest = await page.event()
            read += 1
        assert latest["state"]["rows"]["routers"]["r-1"]["held"] == 100
        assert read <= 3  # what was on its way when it stopped reading, and the newest


async def test_more_pages_than_allowed_are_told_to_try_again() -> None:
    """503 with a time; a page that leaves makes room."""
    streams = EventStreams(live(), max_clients=1, ending=asyncio.Event())
    async with Reader(streams).open() as first:
        await first.event()
        async with Reader(streams).open() as second:
            refusal = await second.message()
            assert refusal["status"] == 503
            assert (b"retry-after", b"5") in refusal["headers"]
        assert streams.open == 1
    assert streams.open == 0
    async with Reader(streams).open() as third:
        assert (await third.message())["status"] == 200


async def test_a_page_that_takes_nothing_is_cut_off() -> None:
    """Its connection is not kept for ever."""
    streams = EventStreams(live(), max_clients=1, ending=asyncio.Event(), stalled_s=0.05)

    async def never(message: Any) -> None:
        if message["type"] == "http.response.body" and message.get("more_body"):
            await asyncio.Event().wait()

    async def receive() -> Any:
        await asyncio.Event().wait()

    async with asyncio.timeout(LIMIT_S):
        await streams({"type": "http"}, receive, never)
    assert streams.open == 0


async def test_streams_end_with_the_console() -> None:
    """At once, rather than after the grace that answers get."""
    ending = asyncio.Event()
    streams = EventStreams(live(), max_clients=1, ending=ending)
    async with Reader(streams).open() as page:
        await page.event()
        ending.set()
        while (await page.message()).get("more_body", True):
            pass
