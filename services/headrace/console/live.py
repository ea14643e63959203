"""The beat of the console: a few times a second what was heard becomes the next state, and whoever waits is woken."""

from __future__ import annotations

import asyncio
import json

from headrace.console.picture import Picture
from headrace.console.revisions import Revisions
from headrace.console.series import Series

BEAT_S = 0.25
"""Between states: as often as routers show themselves."""
POINT_BEATS = 4
"""Beats for each point of the plots: one a second."""


class Live:
    """The latest state. Written by `run` alone; read by all pages."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.series = Series()
        self._revisions = Revisions()
        self._next = asyncio.Event()
        self._beats = 0
        self._point_s: float | None = None

    @property
    def number(self) -> int:
        """Of the latest state."""
        return self._revisions.number

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self.beat(loop.time())
            await asyncio.sleep(BEAT_S)

    def beat(self, at_s: float) -> None:
        """Makes the next state, at that time of the loop's clock."""
        self._revisions.update(self.picture.tables())
        if self._beats % POINT_BEATS == 0:
            over_s = at_s - self._point_s if self._point_s is not None else BEAT_S * POINT_BEATS
            self._point_s = at_s
            self.series.add(list(self.picture.states()), now_s=self.picture.now(), over_s=max(over_s, BEAT_S))
        self._beats += 1
        woken, self._next = self._next, asyncio.Event()
        woken.set()

    async def after(self, number: int) -> None:
        """Returns when there is a later state than that one."""
        while self.number <= number:
            await self._next.wait()

    def message(self, seen: int, seen_points: int) -> str:
        """JSON: what is new after a state and a point; `now` is this machine's time, as all times in it."""
        state = self._revisions.since(seen)
        points = json.dumps(self.series.since(seen_points), separators=(",", ":"))
        return f'{{"now":{round(self.picture.now() * 1000)},"state":{state},"points":{points}}}'
