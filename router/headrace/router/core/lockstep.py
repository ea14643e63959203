"""How long a group takes on a lane: the engine decodes its entries in lockstep.

It prefills in parallel only as far as the shortest prompt reaches; the rest of a longer one is worked in one token a
step, and an entry that has ended leaves the batch. With contexts cᵢ, c₀ = min cᵢ, Dᵢ = cᵢ - c₀ and outputs Rᵢ:

    first token of i  = P(B, c₀-1) + Σ over t ≤ Dᵢ+1 of s(Bₜ, c₀+t)
    T                 = P(B, c₀-1) + Σ over t ≤ max(Dᵢ+Rᵢ) of s(Bₜ, c₀+t),   Bₜ = number of i with Dᵢ+Rᵢ ≥ t

A model that translates reads all sources at once, each padded to the longest: the same with every cᵢ = max cᵢ.

One that embeds makes no steps. A request is nᵢ texts of cᵢ tokens on average; the worker sorts all texts of a batch by
length and computes those of near length together, so that what is left of the padding is in the measured P:

    T  =  P(Σ nᵢ, Σ nᵢ·cᵢ / Σ nᵢ)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headrace.contract.values import Task

SOONEST_S = 0.002
"""Looking again earlier at what runs finds the same: a step takes longer."""


class Costs(Protocol):
    """What a model costs on a worker, in seconds; see `cost`."""

    @property
    def task(self) -> Task:
        """What the model is for."""
        ...

    def prefill(self, batch: int, context: float) -> float:
        """P(batch, context)."""
        ...

    def step(self, batch: int, context: float) -> float:
        """s(batch, context)."""
        ...

    def steps(self, batch: int, context: float, count: float) -> float:
        """The sum of s(batch, c) over `count` steps."""
        ...


Extent = tuple[int, float]
"""A member of a group: (context in tokens, output still to come in tokens); to embed, (tokens of a text, texts)."""


def duration_s(costs: Costs, group: Sequence[Extent]) -> float:
    """T: seconds that a lane runs `group`, which is not empty."""
    if costs.task is not Task.GENERATE:
        if costs.task is Task.EMBED:
            return _pass_s(costs, group)
        group = _padded(group)
    if len(group) == 1:
        context, output = group[0]
        return costs.prefill(1, context - 1) + costs.steps(1, context, output)
    shortest = min(context for context, _ in group)
    ends = sorted(context - shortest + output for context, output in group)
    total, at, live = costs.prefill(len(group), shortest - 1), 0.0, len(group)
    for end in ends:
        if end > at:
            total += costs.steps(live, shortest + at, end - at)
            at = end
        live -= 1
    return total


def moments_s(costs: Costs, group: Sequence[Extent]) -> list[tuple[float, float]]:
    """For each member: seconds from the start to its first token, and to its last."""
    if costs.task is not Task.GENERATE:
        if costs.task is Task.EMBED:
            whole_s = _pass_s(costs, group)
            return [(whole_s, whole_s)] * len(group)
        group = _padded(group)
    shortest = min(context for context, _ in group)
    marks = sorted(
        mark
        for i, (context, output) in enumerate(group)
        for mark in ((context - shortest + 1.0, 1, i), (context - shortest + output, 2, i))
    )
    total, at, live = costs.prefill(len(group), shortest - 1), 0.0, len(group)
    first, last = [0.0] * len(group), [0.0] * len(group)
    for mark, kind, i in marks:
        if mark > at:
            total += costs.steps(live, shortest + at, mark - at)
            at = mark
        if kind == 1:
            first[i] = total
        else:
            last[i] = total
            live -= 1
    return list(zip(first, last, strict=True))


def first_token_s(costs: Costs, member: Extent) -> float:
    """Seconds to the first token of a request that runs alone; to embed, to all its vectors."""
    context, _ = member
    if costs.task is Task.EMBED:
        return _pass_s(costs, (member,))
    return costs.prefill(1, context - 1) + costs.step(1, context)


def _pass_s(costs: Costs, group: Sequence[Extent]) -> float:
    texts = sum(count for _, count in group)
    return costs.prefill(round(texts), sum(context * count for context, count in group) / texts)


def _padded(group: Sequence[Extent]) -> Sequence[Extent]:
    longest = max(context for context, _ in group)
    return [(longest, output) for _, output in group]
