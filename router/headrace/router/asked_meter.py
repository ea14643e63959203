"""How much is asked of each model: requests a second, and how many wait for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from headrace.contract.errors import InvalidRequest
from headrace.contract.subjects import parse_queue

RATE_S = 60.0
"""For how long an arrival counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of a model: requests a second, and how many wait in the broker."""

    rate: float
    waiting: int


class AskedMeter:
    """How much is asked of each model, from what the broker announces: every router hears all of it."""

    def __init__(
        self, announced: Callable[[], Mapping[str, int]], waiting: Callable[[], Mapping[str, int]]
    ) -> None:
        """`announced` gives the messages of each queue since it was last called, `waiting` those that nobody has."""
        self._announced = announced
        self._waiting = waiting
        self._rates: dict[str, float] = {}
        self._at_s: float | None = None

    def look(self, now_s: float) -> Mapping[str, Asked]:
        """By model, as the queues name it."""
        past_s = 0.0 if self._at_s is None else now_s - self._at_s
        self._at_s = now_s
        decay = math.exp(-past_s / RATE_S)
        self._rates = {m: rate * decay for m, rate in self._rates.items() if rate * decay > 1e-6}
        for model, count in _by_model(self._announced()).items():
            self._rates[model] = self._rates.get(model, 0.0) + count / RATE_S
        waiting = _by_model(self._waiting())
        return {
            model: Asked(rate=self._rates.get(model, 0.0), waiting=waiting.get(model, 0))
            for model in self._rates.keys() | waiting.keys()
        }


def _by_model(queues: Mapping[str, int]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for subject, count in queues.items():
        with suppress(InvalidRequest):
            model = parse_queue(subject).model
            counts[model] = counts.get(model, 0) + count
    return counts
