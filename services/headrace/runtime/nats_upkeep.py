"""Keeps the layout on the broker declared while a process runs: somebody may delete a stream under it."""

from __future__ import annotations

import asyncio

import structlog
from nats.aio.client import Client

from headrace.contract.errors import HeadraceError, Unavailable
from headrace.runtime.backoff import Backoff
from headrace.runtime.nats_layout import Layout, LayoutConflict, ensure_layout
from headrace.runtime.nats_state import NatsHealth
from headrace.runtime.settings import Settings

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 5.0
"""How often it is looked for what nobody has missed yet: seven small questions to the broker."""

ANSWER_S = 3.0
"""How long an answer is waited for: while a cluster elects a leader there is none, and the question is asked again."""

_PART = "layout"


class LayoutKeeper:
    """Declares what is missing, at once when told so and within seconds otherwise. Every process that uses the layout
    runs one; they may race.

    What a deleted stream held is gone, of course. What cannot be declared is a trouble of `health`, and tried again.
    """

    def __init__(self, nc: Client, settings: Settings, health: NatsHealth) -> None:
        self._nc = nc
        self._settings = settings
        self._health = health
        self._backoff = Backoff(settings.nats.reconnect_wait_s, settings.nats.reconnect_max_wait_s)
        self._missed = asyncio.Event()
        self._conflict = ""

    def __repr__(self) -> str:
        return f"<LayoutKeeper on {self._health!r}>"

    async def first(self) -> Layout:
        """Declares it at the start of the process. Waits for a broker that does not answer or is electing a leader;
        raises StartError for what waiting does not mend.
        """
        while True:
            try:
                layout = await ensure_layout(self._nc, self._settings, timeout_s=ANSWER_S)
            except Unavailable as error:
                wait_s = self._backoff.next_s()
                self._health.trouble(_PART, str(error))
                await asyncio.sleep(wait_s)
                await self._health.wait_connected()
            else:
                self._health.fine(_PART)
                self._backoff.reset()
                return layout

    def missed(self) -> None:
        """A stream or bucket was not there: it is looked for now."""
        self._missed.set()

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            told = await self._told()
            await self._health.wait_connected()
            if await self._look() or not told:
                self._backoff.reset()
            else:
                # What is said to be missing is there, or cannot be made: an election, say. No spinning meanwhile.
                await asyncio.sleep(self._backoff.next_s())

    async def _told(self) -> bool:
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await self._missed.wait()
        except TimeoutError:
            return False
        self._missed.clear()
        return True

    async def _look(self) -> bool:
        """Whether something had to be declared, and is."""
        try:
            layout = await ensure_layout(self._nc, self._settings, timeout_s=ANSWER_S)
        except HeadraceError as error:
            self._failed(error)
            return False
        self._health.fine(_PART)
        self._conflict = ""
        for stream in layout.created:
            log.error("broker.stream_was_gone", stream=stream, done="declared anew; what it held is lost")
        return bool(layout.created)

    def _failed(self, error: HeadraceError) -> None:
        if isinstance(error, LayoutConflict) and error.exists:
            # Somebody gave a stream more room, say. It works; the next start would not.
            if str(error) != self._conflict:
                log.warning("broker.layout_differs", stream=error.stream, problem=str(error))
            self._conflict = str(error)
            self._health.fine(_PART)
        elif self._health.connected:  # else that is the trouble, and known
            self._health.trouble(_PART, str(error))
