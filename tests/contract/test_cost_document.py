"""A model's cost as JSON: what goes out comes back, and what is none is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contract.cost_document import cost_document, read_cost
from headrace.contract.costs import CostGrid, ModelCost, check_cost

SECONDS = st.floats(1e-6, 1e4).map(lambda value: float(f"{value:.4g}"))


@st.composite
def grids(draw: st.DrawFn) -> CostGrid:
    more = draw(st.lists(st.integers(2, 512), max_size=4, unique=True))
    contexts = draw(st.lists(st.integers(1, 100_000), min_size=1, max_size=5, unique=True))
    cells = (len(more) + 1) * len(contexts)
    return CostGrid(
        batches=(1, *sorted(more)),
        contexts=tuple(sorted(contexts)),
        seconds=tuple(draw(st.lists(SECONDS, min_size=cells, max_size=cells))),
    )


costs = st.builds(ModelCost, step=grids(), prefill=grids(), load_s=SECONDS)


@given(costs)
def test_a_cost_comes_back_as_it_went(cost: ModelCost) -> None:
    """Through text, to four significant digits."""
    check_cost(cost)
    assert read_cost(json.loads(json.dumps(cost_document(cost)))) == cost


GOOD: dict[str, Any] = {
    "step": {"batches": [1, 4], "contexts": [16], "seconds": [[0.01], [0.02]]},
    "prefill": {"batches": [1], "contexts": [16, 64], "seconds": [[0.01, 0.04]]},
    "load_s": 0.5,
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"step": None}, "no JSON object"),
        ({"step": {**GOOD["step"], "batches": [2, 4]}}, "begin with 1"),
        ({"step": {**GOOD["step"], "seconds": [[0.01, 0.02], [0.01]]}}, "one value for each context"),
        ({"step": {**GOOD["step"], "seconds": [[0.01], [-1.0]]}}, "above 0"),
        ({"step": {**GOOD["step"], "seconds": [[0.01], ["x"]]}}, "x"),
        ({"prefill": {"batches": [1]}}, "contexts"),
        ({"load_s": None}, "no cost"),
        ({"load_s": -1}, "load_s"),
    ],
)
def test_what_is_no_cost_is_refused(change: dict[str, Any], told: str) -> None:
    """With ValueError, which says what is wrong."""
    read_cost(GOOD)
    with pytest.raises(ValueError, match=told):
        read_cost({**GOOD, **change})
