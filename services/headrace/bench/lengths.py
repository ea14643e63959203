"""How long prompts and outputs are: distributions over whole numbers of tokens."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Lengths: TypeAlias = Callable[[random.Random], int]
"""Draws a number of tokens, at least 1."""

_NINETY_PERCENT = 1.6449
"""Standard deviations to either side of the mean that hold 90 % of a normal distribution."""


def uniform(low: int, high: int) -> Lengths:
    """Every length from `low` to `high` equally likely."""
    _check(low, high)
    return lambda rng: rng.randint(low, high)


def log_normal(low: int, high: int) -> Lengths:
    """Most short, few long: 90 % lie between `low` and `high`, and the rest is drawn again until it does."""
    _check(low, high)
    middle = (math.log(low) + math.log(high)) / 2
    spread = (math.log(high) - math.log(low)) / 2 / _NINETY_PERCENT
    return mixture([Component(1.0, middle, spread)], low, high)


@dataclass(frozen=True, slots=True)
class Component:
    """A log-normal part of a mixture: its weight, and mean and standard deviation of the logarithm."""

    weight: float
    mu: float
    sigma: float


def mixture(components: Sequence[Component], low: int, high: int) -> Lengths:
    """A mixture of log-normals, kept within `low` … `high` by drawing again."""
    _check(low, high)
    weights = [component.weight for component in components]

    def draw(rng: random.Random) -> int:
        while True:
            (component,) = rng.choices(components, weights)
            length = round(rng.lognormvariate(component.mu, component.sigma))
            if low <= length <= high:
                return length

    return draw


def scaled(lengths: Lengths, divisor: float) -> Lengths:
    """`lengths`, each divided by `divisor` and rounded, at least 1."""
    return lambda rng: max(1, round(lengths(rng) / divisor))


def parse_lengths(text: str) -> Lengths:
    """`64`, `16-256` (uniform) or `log:16-256` (log-normal). Raises ValueError."""
    kind, colon, span = text.rpartition(":")
    low_text, dash, high_text = span.partition("-")
    try:
        low = int(low_text)
        high = int(high_text) if dash else low
    except ValueError:
        raise ValueError(f"{text!r} is no length: write 64, 16-256 or log:16-256") from None
    if colon and kind != "log":
        raise ValueError(f"{text!r}: before the colon only `log` is known")
    return log_normal(low, high) if colon else uniform(low, high)


def _check(low: int, high: int) -> None:
    if not 1 <= low <= high:
        raise ValueError(f"lengths go from at least 1 upwards, not from {low} to {high}")
