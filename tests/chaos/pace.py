"""How fast all clients together ask."""

from __future__ import annotations

import asyncio
import time

SAVED_S = 1.0
"""Turns that nobody took for longer than that are lost: a stall is not followed by a flood."""


class Pace:
    """Gives a turn `rate` times a second, to whoever waits."""

    def __init__(self, rate: float) -> None:
        self._gap_s = 1 / rate
        self._next_s = 0.0

    async def turn(self) -> None:
        """Returns when it is the caller's turn."""
        now_s = time.monotonic()
        at_s = max(self._next_s, now_s - SAVED_S)
        self._next_s = at_s + self._gap_s
        if at_s > now_s:
            await asyncio.sleep(at_s - now_s)
