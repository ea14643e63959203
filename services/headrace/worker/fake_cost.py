"""What a fake model costs: known, as its timing says it."""

from __future__ import annotations

from headrace.contract.costs import CostGrid, ModelCost
from headrace.models.fake import FakeTiming

_LEAST_S = 1e-5
"""A step of a fake engine that takes no time still calls back."""
_BATCHES = (1, 2)
"""Both grids are linear in the entries, and in the context: two points of each are all of it."""


def fake_cost(timing: FakeTiming, context_length: int) -> ModelCost:
    """The exact grids of a fake engine of that timing."""
    contexts = (1, max(2, context_length))
    return ModelCost(
        step=CostGrid(
            batches=_BATCHES,
            contexts=contexts[:1],
            seconds=tuple(max(_LEAST_S, timing.step_s + timing.step_s_per_entry * b) for b in _BATCHES),
        ),
        prefill=CostGrid(
            batches=_BATCHES,
            contexts=contexts,
            seconds=tuple(
                max(_LEAST_S, timing.prefill_s_per_token * (c - 1) * b) for b in _BATCHES for c in contexts
            ),
        ),
        load_s=timing.load_s,
    )
