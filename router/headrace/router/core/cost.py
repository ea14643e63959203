"""What a model costs on a worker: the measured grids, between and beyond their points, times what was observed.

    s(B, c)   one decode step of B entries with c tokens before it
    P(B, c)   from the start of B prompts of c tokens to the step that makes their first tokens
    θ         exponentially weighted mean of observed / predicted, 1 at the start

Both grids are linear between their points, and go on beyond the last as between the last two, never falling; before the
first they stay. Seconds; contexts in tokens.
"""

from __future__ import annotations

from bisect import bisect_right

from headrace.contract.costs import CostGrid, ModelCost
from headrace.contract.values import Task

THETA_WEIGHT = 0.1
"""Of one batch in θ: an old load is forgotten within some twenty batches."""
THETA_BOUNDS = (0.05, 20.0)
"""A clock that jumped or a machine that slept is no measurement."""
OBSERVED_TO_KNOW = 10
"""Batches after which θ makes even a guess a measurement of sorts."""

UNKNOWN = ModelCost(
    step=CostGrid(batches=(1,), contexts=(1,), seconds=(0.02,)),
    prefill=CostGrid(batches=(1, 2), contexts=(1, 1001), seconds=(0.001, 1.001, 0.002, 2.002)),
)
"""Where nobody has measured: a step costs the same for any batch, so whatever is equally long goes together."""


class CostModel:
    """One model on one worker. θ is written by `observe` alone."""

    __slots__ = ("_observed", "_prefill", "_step", "load_s", "task", "theta")

    def __init__(self, cost: ModelCost, task: Task = Task.GENERATE) -> None:
        self.task = task
        """Of the model: it decides how a batch of it runs; see `lockstep`."""
        self._step = _Surface(cost.step)
        self._prefill = _Surface(cost.prefill)
        self.load_s = cost.load_s
        self.theta = 1.0
        self._observed = OBSERVED_TO_KNOW if cost is not UNKNOWN else 0

    def __repr__(self) -> str:
        return f"CostModel(s(1, 256)={self.step(1, 256):.4f} s, θ={self.theta:.2f})"

    @property
    def known(self) -> bool:
        """Whether it was measured, or corrected often enough to refuse a request by it."""
        return self._observed >= OBSERVED_TO_KNOW

    def step(self, batch: int, context: float) -> float:
        """θ · s(batch, context)."""
        return self.theta * self._step.at(batch, context)

    def steps(self, batch: int, context: float, count: float) -> float:
        """θ · the sum of s(batch, c) over the `count` steps that begin with `context` tokens."""
        return self.theta * self._step.between(batch, context, context + count)

    def prefill(self, batch: int, context: float) -> float:
        """θ · P(batch, context)."""
        return self.theta * self._prefill.at(batch, context)

    def observe(self, predicted_s: float, observed_s: float) -> None:
        """A batch took `observed_s` while it ran; `predicted_s` is what this model says of it, with its present θ."""
        if predicted_s <= 0.0 or observed_s <= 0.0:
            return
        self._observed += 1
        low, high = THETA_BOUNDS
        seen = min(max(self.theta * observed_s / predicted_s, low), high)
        self.theta += THETA_WEIGHT * (seen - self.theta)


class _Surface:
    """A grid, piecewise linear along contexts for each batch, with its integral. A batch's line is made when it is
    first asked for.
    """

    __slots__ = ("_contexts", "_grid", "_lines")

    def __init__(self, grid: CostGrid) -> None:
        self._grid = grid
        self._contexts = grid.contexts
        self._lines: dict[int, _Line] = {}

    def at(self, batch: int, context: float) -> float:
        return (self._lines.get(batch) or self._line(batch)).at(context)

    def between(self, batch: int, low: float, high: float) -> float:
        line = self._lines.get(batch) or self._line(batch)
        return line.area(high) - line.area(low)

    def _line(self, batch: int) -> _Line:
        line = self._lines[batch] = _Line(self._contexts, self._values(batch))
        return line

    def _values(self, batch: int) -> list[float]:
        batches, width = self._grid.batches, len(self._contexts)
        rows = [self._grid.seconds[i * width : (i + 1) * width] for i in range(len(batches))]
        if len(batches) == 1 or batch <= batches[0]:
            return list(rows[0])
        right = min(bisect_right(batches, batch), len(batches) - 1)
        low, high = batches[right - 1], batches[right]
        share = (batch - low) / (high - low)
        return [
            a + share * (b - a if share <= 1 else max(0.0, b - a))
            for a, b in zip(rows[right - 1], rows[right], strict=True)
        ]


class _Line:
    """A piecewise linear function of the context, and its integral from 0."""

    __slots__ = ("_areas", "_slopes", "_values", "_xs")

    def __init__(self, contexts: tuple[int, ...], values: list[float]) -> None:
        self._xs = [0.0, *map(float, contexts)]
        self._values = [values[0], *values]
        self._slopes = [
            (self._values[i + 1] - self._values[i]) / (self._xs[i + 1] - self._xs[i] or 1.0)
            for i in range(len(contexts))
        ]
        self._slopes.append(max(0.0, self._slopes[-1]) if len(contexts) > 1 else 0.0)
        self._areas = [0.0]
        for i in range(len(contexts)):
            width = self._xs[i + 1] - self._xs[i]
            self._areas.append(self._areas[i] + width * (self._values[i] + self._values[i + 1]) / 2)

    def at(self, context: float) -> float:
        if context <= 0.0:
            return self._values[0]
        i = bisect_right(self._xs, context) - 1
        return self._values[i] + self._slopes[i] * (context - self._xs[i])

    def area(self, context: float) -> float:
        if context <= 0.0:
            return 0.0
        i = bisect_right(self._xs, context) - 1
        x = context - self._xs[i]
        return self._areas[i] + x * (self._values[i] + self._slopes[i] * x / 2)
