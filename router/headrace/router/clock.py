"""One clock for the core: the event loop's, with the broker's and the callers' Unix times laid onto it."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """Monotonic seconds. The offset to Unix time is taken once, so that arrivals keep the broker's order."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._offset = time.time() - self._loop.time()

    def now(self) -> float:
        return self._loop.time()

    def of_unix(self, unix_s: float) -> float:
        """The moment of a Unix time on this clock."""
        return unix_s - self._offset

    def to_unix(self, at_s: float) -> float:
        """The Unix time of a moment on this clock."""
        return at_s + self._offset
