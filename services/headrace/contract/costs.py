"""What a model costs on one machine: seconds per decode step and per prefill, as they were measured there."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

MAX_GRID = 64
"""Sizes, and contexts, of one grid: nobody measures more."""
MAX_COST_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CostGrid:
    """Seconds by (entries of the batch, context in tokens), for the values of both that were measured."""

    batches: tuple[int, ...]
    """Rising, from 1."""
    contexts: tuple[int, ...]
    """Rising."""
    seconds: tuple[float, ...]
    """For each of `batches` those of all `contexts`; above 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost:
    """What a model costs on one machine while all slots run."""

    step: CostGrid
    """s(B, c): one decode step of B entries, each with c tokens before it."""
    prefill: CostGrid
    """P(B, c): from the start of B prompts of c tokens to the beginning of the step that makes their first tokens."""
    load_s: float = 0.0
    """To load the model."""


def check_cost(cost: ModelCost) -> None:
    """Raises ValueError, with what is wrong, where `cost` is none that somebody measured."""
    for name, grid in (("step", cost.step), ("prefill", cost.prefill)):
        for axis in (grid.batches, grid.contexts):
            if not 1 <= len(axis) <= MAX_GRID or any(b <= a for a, b in pairwise(axis)):
                raise ValueError(f"{name}: an axis has 1 to {MAX_GRID} rising values")
        if grid.batches[0] != 1:
            raise ValueError(f"{name}: the batches begin with 1")
        if len(grid.seconds) != len(grid.batches) * len(grid.contexts):
            raise ValueError(f"{name}: there is one value for each batch and context")
        if not all(isfinite(cell) and 0 < cell <= MAX_COST_S for cell in grid.seconds):
            raise ValueError(f"{name}: a cost lies above 0 and is at most {MAX_COST_S:g} s")
    if not (isfinite(cost.load_s) and 0 <= cost.load_s <= MAX_COST_S):
        raise ValueError(f"load_s: lies between 0 and {MAX_COST_S:g} s")
