"""When requests come in an open loop: whether or not the earlier ones are answered."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

_TICK_S = 1.0
"""The rate of a bursty load is constant for so long; it changes over minutes."""


def poisson(rate: float, rng: random.Random) -> Iterator[float]:
    """Arrival times in seconds from 0, `rate` a second in the mean, each independent of the others. Endless."""
    if rate <= 0:
        raise ValueError(f"the rate must be above 0, not {rate:g}")
    at_s = 0.0
    while True:
        at_s += rng.expovariate(rate)
        yield at_s


def bursty(
    rate: float, rng: random.Random, *, sigma: float, memory_s: float, shape: float
) -> Iterator[float]:
    """Arrival times around a rate that itself wanders. Endless; `rate` a second in the long mean.

    The logarithm of the rate is an autoregressive process with standard deviation `sigma` that forgets over
    `memory_s`; within it the gaps are gamma distributed with `shape` (1 = Poisson, less = clustered).
    """
    if rate <= 0:
        raise ValueError(f"the rate must be above 0, not {rate:g}")
    keep = math.exp(-_TICK_S / memory_s)
    level = rng.gauss(0.0, sigma)
    until_s, at_s = _TICK_S, 0.0
    while True:
        # Unit-mean gaps are stretched by the rate of the moment; a log-normal's mean is above its median.
        left = rng.gammavariate(shape, 1.0 / shape)
        while True:
            now_rate = rate * math.exp(level - sigma * sigma / 2)
            if left <= (until_s - at_s) * now_rate:
                at_s += left / now_rate
                break
            left -= (until_s - at_s) * now_rate
            at_s, until_s = until_s, until_s + _TICK_S
            level = keep * level + rng.gauss(0.0, sigma * math.sqrt(1 - keep * keep))
        yield at_s
