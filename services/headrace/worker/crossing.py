"""The one way from a lane's thread to the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Crossing(Generic[Item]):
    """Carries items from one thread to a function on the event loop, in order.

    An item costs at most one wake-up of the loop; while the loop is busy the items that follow share that one. So
    at most one call waits in the loop, whatever the thread does. The items themselves are a lane's steps: bounded
    by what its entries may make.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Callable[[Item], None]) -> None:
        self._loop = loop
        self._receive = receive
        self._items: deque[Item] = deque()
        # True from the moment that a wake-up is asked for until the loop begins to take items.
        self._woken = False
        self.wakeups = 0
        """How often the loop was woken. Written by the thread."""

    def send(self, item: Item) -> None:
        """From the thread. Raises RuntimeError where the loop is closed."""
        self._items.append(item)
        if not self._woken:
            self._woken = True
            self.wakeups += 1
            self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        # Before the items are counted: one that comes now either is among them or wakes the loop again.
        self._woken = False
        # Not those that come meanwhile: a fast engine would keep the loop here for as long as it runs.
        for _ in range(len(self._items)):
            self._receive(self._items.popleft())
