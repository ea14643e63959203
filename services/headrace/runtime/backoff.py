"""How long to wait before the next try: longer each time, and never in step with others."""

from __future__ import annotations

import random


class Backoff:
    """Waits that double from `first_s` up to `longest_s`, each with up to half of it taken off at random.

    The jitter keeps those that lost the same peer from coming back all at once.
    """

    def __init__(self, first_s: float, longest_s: float, rng: random.Random | None = None) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._rng = rng or random.Random()
        self._next_s = first_s

    def next_s(self) -> float:
        """Seconds to wait now."""
        wait_s = self._next_s
        self._next_s = min(2 * wait_s, self._longest_s)
        return wait_s * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It worked: the next wait is a first one."""
        self._next_s = self._first_s
