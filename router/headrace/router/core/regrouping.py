"""Who joins a batch that runs already: it is stopped, and goes on as a larger one, prefilled anew.

The engine admits nobody into a running batch. What its members made is kept, so they can go on together with those that
wait, at the price of their prefill. Where no slot is free for the first in order, a batch of its class that runs is
merged with it and its companions, or with others of its class that are nearer in length, if both tests are passed
(b members run, m join, T as in `lockstep`):

    gain · T(b + m) < residual + T(m)                          it pays for what is expected from here on
    W ≥ P(b+m, c₀-1) - P(m, cₘ-1) + D · s(b+m, c₀)             and the waste so far has reached its price

W is what running apart has cost since they could have run together: per step, max(0, s(b) + s(m) - s(b+m)). Without
the first test merges eat the throughput that they are to bring, without the second a forecast that errs is paid for
before it has cost anything: no more is spent on merging than was lost by not merging, as with skis that are hired until
their price has been paid.

Source: the second test is the deterministic rule for ski rental, Karlin, Manasse, Rudolph and Sleator,
Algorithmica 1988.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.router.core.lockstep import Costs, Extent, duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Merger:
    """What merging a batch that runs with a group that waits would bring."""

    together_s: float
    """From now until all have ended, merged."""
    apart_s: float
    """The same of one after the other."""
    price_s: float
    """What computing anew takes of it."""
    waste_per_s: float
    """What is lost per second that the batch goes on alone."""


def remaining_s(costs: Costs, running: Sequence[Extent]) -> float:
    """How long a batch goes on whose members are at these contexts."""
    at, live = 0.0, len(running)
    shortest, total = min(context for context, _ in running), 0.0
    for end in sorted(output for _, output in running):
        if end > at:
            total += costs.steps(live, shortest + at, end - at)
            at = end
        live -= 1
    return total


def merger(costs: Costs, running: Sequence[Extent], joining: Sequence[Extent], alone_s: float) -> Merger:
    """Of the members of a batch, at their present contexts, and those that join it; neither is empty. `alone_s` is what
    those would take without it.
    """
    merged = [*running, *joining]
    shortest = min(context for context, _ in merged)
    first = min(context for context, _ in joining)
    skew = max(context for context, _ in running) - shortest
    b, m = len(running), len(joining)
    step_s, merged_step_s = costs.step(b, shortest), costs.step(b + m, shortest)
    return Merger(
        together_s=duration_s(costs, merged),
        apart_s=remaining_s(costs, running) + alone_s,
        price_s=costs.prefill(b + m, shortest - 1) - costs.prefill(m, first - 1) + skew * merged_step_s,
        waste_per_s=max(0.0, step_s + costs.step(m, first) - merged_step_s) / step_s,
    )
