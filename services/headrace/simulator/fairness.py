"""How evenly tenants that wait are served, from when each request came and when it was started.

Service is what a request costs, prompt + 2 · output tokens, and is given when it starts. A tenant waits while any of
its requests does. The run is cut into windows, and those count in which several tenants wait from end to end:

    x    = a tenant's service, by an equal share of what those that waited with it got
    Jain = (Σ x)² / (n · Σ x²)     over the n tenants that waited so in some windows
    gap  = how far the service of two of them drifts apart over windows in a row in which both wait

Source: Jain, Chiu, Hawe (1984), A quantitative measure of fairness and discrimination.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import combinations

from headrace.simulator.asked import Asked, Life

OUTPUT_WEIGHT = 2.0
"""A decode step's token against one of a prefill."""
WINDOWS = 200
"""Of a run: short against a flood, long against a request."""
FEWEST = 5
"""Windows that a tenant has waited in before its share means anything."""


def service(asked: Asked) -> float:
    """Tokens, weighted."""
    return asked.prompt_tokens + OUTPUT_WEIGHT * asked.output_tokens


def fairness(lives: Sequence[Life], end_s: float) -> tuple[float, float]:
    """(Jain index, largest gap in weighted tokens); (1, 0) where never two tenants wait at once."""
    by_tenant: dict[str, list[Life]] = {}
    for life in lives:
        by_tenant.setdefault(life.asked.tenant, []).append(life)
    if len(by_tenant) < 2 or end_s <= 0:
        return 1.0, 0.0
    tenants = [_windows(those, end_s) for those in by_tenant.values()]
    got, due, counted = [0.0] * len(tenants), [0.0] * len(tenants), [0] * len(tenants)
    for window in range(WINDOWS):
        there = [number for number, (waits, _) in enumerate(tenants) if waits[window]]
        if len(there) > 1:
            share = sum(tenants[number][1][window] for number in there) / len(there)
            for number in there:
                got[number] += tenants[number][1][window]
                due[number] += share
                counted[number] += 1
    gap = max(_drift(one, other) for one, other in combinations(tenants, 2))
    shares = [g / d for g, d, count in zip(got, due, counted, strict=True) if d and count >= FEWEST]
    return jain_index(shares), gap


def jain_index(values: Sequence[float]) -> float:
    """1 = all are equal, 1 / n = one has everything; 1 where there is nothing to share."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


_Windows = tuple[list[bool], list[float]]
"""For each window: whether the tenant waits all through it, and its service in it."""


def _windows(lives: Sequence[Life], end_s: float) -> _Windows:
    width_s = end_s / WINDOWS
    served = [0.0] * WINDOWS
    # Latest start of all that came so far: while it lies ahead, somebody waits. Refused ones never start.
    arrivals, latest = [], []
    until_s = -1.0
    for life in lives:
        if life.start_s > end_s:
            continue
        served[min(WINDOWS - 1, int(life.start_s / width_s))] += service(life.asked)
        until_s = max(until_s, life.start_s)
        arrivals.append(life.asked.arrival_s)
        latest.append(until_s)

    def waits(window: int) -> bool:
        at_s = window * width_s
        came = bisect_right(arrivals, at_s)
        return bool(came) and latest[came - 1] >= at_s + width_s

    return [waits(window) for window in range(WINDOWS)], served


def _drift(one: _Windows, other: _Windows) -> float:
    """The largest range of the difference of service within a spell in which both wait."""
    most = level = low = high = 0.0
    for window in range(WINDOWS):
        if not (one[0][window] and other[0][window]):
            level = low = high = 0.0
            continue
        level += one[1][window] - other[1][window]
        low, high = min(low, level), max(high, level)
        most = max(most, high - low)
    return most
