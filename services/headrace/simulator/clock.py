"""The virtual clock: what is to happen, in the order of its time; what falls on one time happens as it was entered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any

from headrace.simulator.asked import Life

TICK = 10_000
"""Arrivals between two words of progress."""


class Clock:
    """`now` is written by `run` alone."""

    __slots__ = ("_entered", "_heap", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[Any, int], None], Any, int]] = []
        self._entered = 0

    def at(self, at_s: float, happens: Callable[[Any, int], None], what: Any, version: int = 0) -> None:
        """`happens(what, version)` at `at_s`, which is not past."""
        self._entered += 1
        heappush(self._heap, (at_s, self._entered, happens, what, version))

    def run(
        self,
        lives: Sequence[Life],
        arrives: Callable[[Life], None],
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Until everything has happened. `lives` arrive in order, each before whatever else falls on its time."""
        heap = self._heap
        for count, life in enumerate(lives, 1):
            arrival_s = life.asked.arrival_s
            while heap and heap[0][0] < arrival_s:
                self.now, _, happens, what, version = heappop(heap)
                happens(what, version)
            self.now = arrival_s
            arrives(life)
            if progress is not None and count % TICK == 0:
                progress(count)
        while heap:
            self.now, _, happens, what, version = heappop(heap)
            happens(what, version)
