"""The cost grids of a model, measured within a time: as many cells as it allows, and the others by a rule.

The cells of one entry come first, then those of the shortest context, each until the next would take too long: these
are the grid's axes. Then the cells between them, cheapest first. One that there was no time for is

    cost(B, c) = cost(B, c') + B / B' · (cost(B', c) - cost(B', c'))

with B' and c' the next smaller ones: a longer context costs each entry what it costs it in the smaller batch. That is
too little where the engine's memory for a context outgrows what its allocator keeps: on a CPU a step at 16 × 1024 can
take ten times that at 8 × 1024.

Time that is left goes into measuring all again. Other programs only ever add to a time, so the least of the rounds
counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from headrace.contract.costs import CostGrid, ModelCost
from headrace.worker.measure import WARM_UP_STEPS, CellCost, Measurable, measure_cell

Cell = tuple[int, int]
"""(entries, context)"""
Clock = Callable[[], float]

_GROWTH = 1.5
"""A cell that is n times as large is expected to take up to this factor more than n times as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPlan:
    """What is measured, if there is time."""

    batches: Sequence[int]
    """Rising, from 1."""
    contexts: Sequence[int]
    """Rising. Those that the model's own limit leaves no room for are left out, and the first never is."""
    lanes: int
    """Run the same batch at once."""
    steps: int = 5
    """Of each cell and lane, whose median counts."""
    seconds: float
    """For all of it. The first cell is measured however long it takes."""
    rounds: int = 6
    """At most: the first measures, the others make sure."""


def measure_grids(
    model: Measurable,
    plan: GridPlan,
    *,
    progress: Callable[[float], None] = lambda share: None,
    clock: Clock = time.perf_counter,
) -> ModelCost:
    """s(B, c) and P(B, c) while `plan.lanes` lanes run. Blocks, for about `plan.seconds`.

    `progress` hears the share of the time that is gone. `load_s` is left at 0: the caller loaded the model.
    """
    measuring = _Measuring(model, plan, progress, clock)
    measuring.first_round()
    measuring.more_rounds()
    return measuring.result()


class _Measuring:
    """The cells so far. `_least` holds what each cost, `_took_s` how long it was to measure."""

    def __init__(
        self, model: Measurable, plan: GridPlan, progress: Callable[[float], None], clock: Clock
    ) -> None:
        self._model = model
        self._plan = plan
        self._progress = progress
        self._clock = clock
        self._began_s = clock()
        room = model.context_length - WARM_UP_STEPS - plan.steps
        self._contexts = [c for c in plan.contexts if c <= room] or [max(1, min(plan.contexts[0], room))]
        self._batches = list(plan.batches)
        self._least: dict[Cell, CellCost] = {}
        self._took_s: dict[Cell, float] = {}

    def first_round(self) -> None:
        """Measures the axes, shortening them where time runs out, and what it can of the rest."""
        shortest = self._contexts[0]
        self._measure((1, shortest))
        self._contexts = [shortest, *self._grow((1, context) for context in self._contexts[1:])]
        self._batches = [1, *(self._grow((batch, shortest) for batch in self._batches[1:]))]
        for cell in self._inner():
            if not self._fits(cell):
                break
            self._measure(cell)

    def more_rounds(self) -> None:
        """Measures again what there is time for, in the same order."""
        for _ in range(self._plan.rounds - 1):
            for cell in list(self._least):
                if self._took_s[cell] <= self._left_s():
                    self._measure(cell)

    def result(self) -> ModelCost:
        return ModelCost(
            step=self._grid(lambda cost: cost.step_s), prefill=self._grid(lambda cost: cost.prefill_s)
        )

    def _grow(self, cells: Iterator[Cell]) -> list[int]:
        """Measures cell after cell along an axis until one would not fit. Returns what varies among those measured."""
        grown = []
        for batch, context in cells:
            if not self._fits((batch, context)):
                break
            self._measure((batch, context))
            grown.append(context if batch == 1 else batch)
        return grown

    def _inner(self) -> list[Cell]:
        cells = [(batch, context) for batch in self._batches[1:] for context in self._contexts[1:]]
        return sorted(cells, key=lambda cell: cell[0] * cell[1])

    def _measure(self, cell: Cell) -> None:
        began_s = self._clock()
        batch, context = cell
        cost = measure_cell(
            self._model, lanes=self._plan.lanes, batch=batch, context=context, steps=self._plan.steps
        )
        if (before := self._least.get(cell)) is not None:
            cost = CellCost(
                step_s=min(before.step_s, cost.step_s), prefill_s=min(before.prefill_s, cost.prefill_s)
            )
        self._least[cell] = cost
        self._took_s[cell] = self._clock() - began_s
        left_s, seconds = self._left_s(), self._plan.seconds
        self._progress(1.0 if left_s <= 0.0 else 1.0 - left_s / seconds)

    def _fits(self, cell: Cell) -> bool:
        """Whether there is time for a cell that was not measured yet, going by the largest one within it."""
        within = [one for one in self._took_s if one[0] <= cell[0] and one[1] <= cell[1]]
        largest = max(within, key=lambda one: one[0] * one[1])
        factor = cell[0] * cell[1] / (largest[0] * largest[1])
        return self._took_s[largest] * factor * _GROWTH <= self._left_s()

    def _left_s(self) -> float:
        return self._plan.seconds - (self._clock() - self._began_s)

    def _grid(self, part: Callable[[CellCost], float]) -> CostGrid:
        costs: dict[Cell, float] = {}
        for row, batch in enumerate(self._batches):
            for column, context in enumerate(self._contexts):
                if (measured := self._least.get((batch, context))) is not None:
                    costs[batch, context] = part(measured)
                    continue
                smaller, shorter = self._batches[row - 1], self._contexts[column - 1]
                growth = max(0.0, costs[smaller, context] - costs[smaller, shorter])
                costs[batch, context] = costs[batch, shorter] + batch / smaller * growth
        return CostGrid(
            batches=tuple(self._batches), contexts=tuple(self._contexts), seconds=tuple(costs.values())
        )
