"""Shows this router to whoever looks on: a state a few times a second while somebody asks, and nothing else.

Nobody asks: it costs nothing. With hundreds of workers it comes less often, so that it takes little of this process's
time, but once a second.
"""

from __future__ import annotations

import asyncio
import time

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from headrace.contract.subjects import STATE_ASK, state_subject
from headrace.router.state import Portrait
from headrace.runtime.nats_state import NatsHealth

log = structlog.get_logger(__name__)

EVERY_S = 0.25
"""Between states: as quick as an eye wants it."""
ASKED_FOR_S = 5.0
"""How long one ask counts: those that look on ask every second, so some may be lost."""
MAX_BYTES = 1024 * 1024
"""Of one state, where the broker takes that much; hundreds of workers and queues take a tenth of it."""
SHARE = 0.02
"""Of this process's time that may go into states: where one takes long to build, they come less often."""
AT_LEAST_EVERY_S = 1.0
"""However long one takes: whoever looks on is to see a loss within two seconds."""


class Showing:
    """Hears who looks on, and shows the router to them."""

    def __init__(self, nc: Client, router_id: str, *, portrait: Portrait, health: NatsHealth) -> None:
        self._nc = nc
        self._subject = state_subject(router_id)
        self._portrait = portrait
        self._health = health
        self._asked = asyncio.Event()
        self._until_s = 0.0

    async def run(self) -> None:
        """Shows it until cancelled."""
        await self._nc.subscribe(STATE_ASK, cb=self._on_ask)  # ends with the connection
        loop = asyncio.get_running_loop()
        while True:
            await self._asked.wait()
            self._asked.clear()
            while loop.time() < self._until_s:
                await self._health.wait_connected()  # a state that waits to be sent is none of now
                wait_s = await self._show() / SHARE
                await asyncio.sleep(min(max(EVERY_S, wait_s), AT_LEAST_EVERY_S))

    async def _show(self) -> float:
        """Seconds that it took to build."""
        began_s = time.perf_counter()
        body = self._portrait.encoded(min(MAX_BYTES, self._nc.max_payload))
        took_s = time.perf_counter() - began_s
        try:
            await self._nc.publish(self._subject, body)
        except (NatsError, OSError) as error:
            log.debug("state.not_shown", problem=type(error).__name__)
        return took_s

    async def _on_ask(self, message: Msg) -> None:
        self._until_s = asyncio.get_running_loop().time() + ASKED_FOR_S
        self._asked.set()
