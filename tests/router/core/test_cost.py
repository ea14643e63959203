"""The cost of a step and of a prefill, between and beyond what was measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contract.costs import CostGrid, ModelCost, check_cost
from headrace.router.core.cost import THETA_BOUNDS, UNKNOWN, CostModel
from headrace.router.core.lockstep import duration_s, moments_s

MEASURED = ModelCost(
    step=CostGrid(batches=(1, 4), contexts=(16, 256), seconds=(0.010, 0.020, 0.016, 0.056)),
    prefill=CostGrid(batches=(1, 4), contexts=(16, 256), seconds=(0.05, 0.8, 0.2, 4.0)),
)


def model() -> CostModel:
    return CostModel(MEASURED)


@pytest.mark.parametrize(
    ("batch", "context", "seconds"),
    [
        (1, 16, 0.010),
        (4, 256, 0.056),
        (1, 136, 0.015),
        (2, 16, 0.012),  # a third of the way from 1 to 4
        (1, 0, 0.010),  # before the first point it stays
        (1, 496, 0.030),  # beyond the last it goes on
        (7, 16, 0.022),
    ],
)
def test_a_step_is_linear_between_what_was_measured_and_beyond(
    batch: int, context: int, seconds: float
) -> None:
    """Seconds, by the two points around it."""
    assert model().step(batch, context) == pytest.approx(seconds)


@given(
    batch=st.integers(1, 9), begin=st.integers(0, 900), first=st.integers(0, 300), then=st.integers(0, 300)
)
def test_steps_add_up(batch: int, begin: int, first: int, then: int) -> None:
    """The steps of a stretch are those of its parts."""
    costs = model()
    parts = costs.steps(batch, begin, first) + costs.steps(batch, begin + first, then)
    assert costs.steps(batch, begin, first + then) == pytest.approx(parts, abs=1e-9)
    assert costs.steps(batch, begin, first) == pytest.approx(
        sum(costs.step(batch, begin + t + 0.5) for t in range(first)), rel=0.02, abs=1e-9
    )


def test_what_is_observed_corrects_what_was_measured() -> None:
    """A worker that has become half as fast is known to be that after some batches."""
    costs = model()
    for _ in range(60):
        costs.observe(costs.step(1, 16), 0.020)
    assert costs.step(1, 16) == pytest.approx(0.020, rel=0.01)
    for _ in range(500):
        costs.observe(costs.step(1, 16), 1e6)
    assert costs.theta <= THETA_BOUNDS[1]


def test_a_lone_entry_takes_its_prefill_and_its_steps() -> None:
    """Nothing else."""
    costs = model()
    assert duration_s(costs, [(100, 20)]) == pytest.approx(costs.prefill(1, 99) + costs.steps(1, 100, 20))


def test_a_longer_prompt_is_worked_in_token_by_token() -> None:
    """Its first token comes as many steps later, and the others pay for its place meanwhile."""
    costs = model()
    (short_first, short_last), (long_first, long_last) = moments_s(costs, [(16, 10), (56, 10)])
    prefill = costs.prefill(2, 15)
    assert short_first == pytest.approx(prefill + costs.steps(2, 16, 1))
    assert short_last == pytest.approx(prefill + costs.steps(2, 16, 10))
    assert long_first == pytest.approx(short_last + costs.steps(1, 26, 31))
    assert long_last == pytest.approx(duration_s(costs, [(16, 10), (56, 10)]))


@given(st.lists(st.tuples(st.integers(2, 400), st.integers(1, 200)), min_size=1, max_size=8))
def test_a_group_takes_as_long_as_its_last_entry(group: list[tuple[int, int]]) -> None:
    """The two ways to count agree, and nobody's first token comes after its last."""
    costs = model()
    moments = moments_s(costs, group)
    assert max(last for _, last in moments) == pytest.approx(duration_s(costs, group))
    assert all(0 < first <= last + 1e-9 for first, last in moments)


def test_where_nothing_is_known_a_larger_batch_costs_no_more_per_step() -> None:
    """So that whatever is equally long goes together."""
    check_cost(UNKNOWN)
    costs = CostModel(UNKNOWN)
    assert costs.step(32, 2_000) == costs.step(1, 10)


@pytest.mark.parametrize(
    "grid",
    [
        CostGrid(batches=(), contexts=(1,), seconds=()),
        CostGrid(batches=(2,), contexts=(1,), seconds=(1.0,)),
        CostGrid(batches=(1, 1), contexts=(1,), seconds=(1.0, 1.0)),
        CostGrid(batches=(1,), contexts=(5, 4), seconds=(1.0, 1.0)),
        CostGrid(batches=(1,), contexts=(1, 2), seconds=(1.0,)),
        CostGrid(batches=(1,), contexts=(1,), seconds=(0.0,)),
        CostGrid(batches=(1,), contexts=(1,), seconds=(float("nan"),)),
        CostGrid(batches=(1,), contexts=tuple(range(65)), seconds=(1.0,) * 65),
    ],
)
def test_a_grid_that_nobody_measured_is_refused(grid: CostGrid) -> None:
    """It names the grid that is wrong."""
    with pytest.raises(ValueError, match="prefill"):
        check_cost(ModelCost(step=MEASURED.step, prefill=grid))
