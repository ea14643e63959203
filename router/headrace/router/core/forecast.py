"""How much output is still to come, learnt from the outputs that ended.

    R̂(g, m) = E[min(length, m) - g | length ≥ g]   after g tokens, with at most m

A request that reached its limit says only that it would have gone on, so the mean of what was seen would be too short
for those with a high limit. Therefore the chance to end is learnt, by stretches of the output, as ends / tokens made:

    h(stretch) = (ends in it + K · h of the one before) / (tokens made in it + K)
    S(x)       = exp(-∫ from 0 to x of h),   R̂(g, m) = ∫ from g to m of S / S(g)

K tokens of doubt: a stretch that few outputs have reached goes on as the one before it.

Source: the piecewise exponential estimate of survival with censored observations,
Friedman, Annals of Statistics 1982.
"""

from __future__ import annotations

from bisect import bisect_right
from math import exp

BOUNDS: tuple[int, ...] = (0, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Stretches of an output, in tokens; the last has no end."""
DOUBT_TOKENS = 128.0
"""K."""
PRIOR_HAZARD = 1 / 256
"""Before anything was seen: outputs of some 256 tokens."""
MEMORY = 2_000
"""Outputs after which all that was seen counts half."""
REFRESH = 16
"""Outputs after which the estimate follows what was seen since."""
_STRETCHES = len(BOUNDS)


class Forecast:
    """The outputs of one model. Written by the Scheduler alone."""

    __slots__ = ("_areas", "_cache", "_ends", "_hazards", "_new", "_seen", "_survival", "_tokens")

    def __init__(self) -> None:
        self._tokens = [0.0] * _STRETCHES
        self._ends = [0.0] * _STRETCHES
        self._seen = 0
        self._new = 0
        self._cache: dict[tuple[int, int], float] = {}
        self._refresh()

    def observe(self, made: int, *, ended: bool) -> None:
        """An output of `made` tokens; `ended` is whether it ended by itself, rather than at its limit."""
        for i in range(_STRETCHES):
            begin = BOUNDS[i]
            if made < begin:
                break
            end = BOUNDS[i + 1] if i + 1 < _STRETCHES else made
            self._tokens[i] += min(made, end) - begin
            if ended and (made < end or i + 1 == _STRETCHES):
                self._ends[i] += 1
        self._seen += 1
        if self._seen % MEMORY == 0:
            self._tokens = [tokens / 2 for tokens in self._tokens]
            self._ends = [ends / 2 for ends in self._ends]
        self._new += 1
        if self._new >= REFRESH or self._seen < REFRESH:
            self._refresh()

    def remaining(self, generated: int, limit: int) -> float:
        """R̂(generated, limit): tokens, at least 1 and at most what the limit leaves."""
        key = (generated, limit)
        if (known := self._cache.get(key)) is None:
            if len(self._cache) > 4096:
                self._cache.clear()
            known = self._cache[key] = self._remaining(generated, limit)
        return known

    def _remaining(self, generated: int, limit: int) -> float:
        if limit - generated <= 1:
            return 1.0
        alive = self._survives(generated)
        if alive < 1e-9:  # longer than nearly all: as the last stretch has it
            return max(1.0, min(limit - generated, 1.0 / max(self._hazards[-1], 1e-9)))
        return min(max(1.0, (self._area(limit) - self._area(generated)) / alive), float(limit - generated))

    def _refresh(self) -> None:
        self._new = 0
        self._cache.clear()
        self._hazards, before = [], PRIOR_HAZARD
        for ends, tokens in zip(self._ends, self._tokens, strict=True):
            before = (ends + DOUBT_TOKENS * before) / (tokens + DOUBT_TOKENS)
            self._hazards.append(before)
        self._survival, self._areas = [1.0], [0.0]
        for i in range(_STRETCHES - 1):
            width, hazard = BOUNDS[i + 1] - BOUNDS[i], self._hazards[i]
            left = exp(-hazard * width)
            self._areas.append(self._areas[i] + self._survival[i] * _area(hazard, width))
            self._survival.append(self._survival[i] * left)

    def _survives(self, x: float) -> float:
        i = bisect_right(BOUNDS, x) - 1
        return self._survival[i] * exp(-self._hazards[i] * (x - BOUNDS[i]))

    def _area(self, x: float) -> float:
        i = bisect_right(BOUNDS, x) - 1
        return self._areas[i] + self._survival[i] * _area(self._hazards[i], x - BOUNDS[i])


def _area(hazard: float, width: float) -> float:
    """∫ from 0 to `width` of exp(-hazard · x)."""
    return (1.0 - exp(-hazard * width)) / hazard if hazard * width > 1e-9 else width
