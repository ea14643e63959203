"""How much is asked for by each name: requests a second, and how many wait for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from headrace.contract.errors import InvalidRequest
from headrace.contract.subjects import SHADOW_TENANT, parse_queue

RATE_S = 60.0
"""For how long an arrival counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """What queues are for: an alias or a model, of any task."""

    name: str
    copies: bool = False
    """For its shadow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Requests a second, and how many wait in the broker: a part of them, where several versions answer a name."""

    rate: float = 0.0
    waiting: float = 0.0

    def plus(self, more: Asked, share: float) -> Asked:
        """And that share of `more`."""
        return Asked(rate=self.rate + share * more.rate, waiting=self.waiting + share * more.waiting)


class AskedMeter:
    """How much is asked for by each name, from what the broker announces: every router hears all of it."""

    def __init__(
        self, announced: Callable[[], Mapping[str, int]], waiting: Callable[[], Mapping[str, int]]
    ) -> None:
        """`announced` gives the messages of each queue since it was last called, `waiting` those that nobody has."""
        self._announced = announced
        self._waiting = waiting
        self._rates: dict[Name, float] = {}
        self._at_s: float | None = None

    def look(self, now_s: float) -> Mapping[Name, Asked]:
        """As the queues name it; `headrace.router.asked_versions` says for whom that counts."""
        past_s = 0.0 if self._at_s is None else now_s - self._at_s
        self._at_s = now_s
        decay = math.exp(-past_s / RATE_S)
        self._rates = {name: rate * decay for name, rate in self._rates.items() if rate * decay > 1e-6}
        for name, count in _by_name(self._announced()).items():
            self._rates[name] = self._rates.get(name, 0.0) + count / RATE_S
        waiting = _by_name(self._waiting())
        return {
            name: Asked(rate=self._rates.get(name, 0.0), waiting=waiting.get(name, 0))
            for name in self._rates.keys() | waiting.keys()
        }


def _by_name(queues: Mapping[str, int]) -> dict[Name, int]:
    counts: dict[Name, int] = {}
    for subject, count in queues.items():
        with suppress(InvalidRequest):
            queue = parse_queue(subject)
            name = Name(name=queue.model, copies=queue.tenant == SHADOW_TENANT)
            counts[name] = counts.get(name, 0) + count
    return counts
