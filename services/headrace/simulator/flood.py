"""A tenant that asks for too much for a while."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

FLOODER = "flood"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """From `start_s` on and for `duration_s`, one more tenant asks `factor` times as often as all others together."""

    start_s: float
    duration_s: float
    factor: float

    def arrivals(self, rate: float, rng: random.Random) -> Iterator[float]:
        """Its times; `rate` is that of the others."""
        at_s = self.start_s
        while (at_s := at_s + rng.expovariate(rate * self.factor)) < self.start_s + self.duration_s:
            yield at_s


def parse_flood(text: str) -> Flood:
    """`20,10,4`: start and duration in seconds, factor. Raises ValueError."""
    try:
        start_s, duration_s, factor = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is no flood: write START,SECONDS,FACTOR such as 20,10,4") from None
    if start_s < 0 or duration_s <= 0 or factor <= 0:
        raise ValueError("a flood starts at 0 or later, and its seconds and factor are above 0")
    return Flood(start_s=start_s, duration_s=duration_s, factor=factor)
