"""What merging a running batch with a group would bring."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.router.core.cost import CostModel
from headrace.router.core.lockstep import Extent, duration_s
from headrace.router.core.regrouping import merger, remaining_s
from tests.router.core.dialogue import costs

EXTENTS = st.lists(st.tuples(st.integers(2, 200), st.floats(1.0, 100.0)), min_size=1, max_size=8)


@given(running=EXTENTS)
def test_what_remains_is_what_it_takes_without_the_prefill(running: list[Extent]) -> None:
    """Where all are equally long: then nobody has to catch up."""
    model = CostModel(costs())
    alike = [(running[0][0], output) for _, output in running]
    prefill_s = model.prefill(len(alike), alike[0][0] - 1)
    assert remaining_s(model, alike) == pytest.approx(duration_s(model, alike) - prefill_s)


@given(running=EXTENTS, joining=EXTENTS)
def test_the_price_is_what_is_computed_again(running: list[Extent], joining: list[Extent]) -> None:
    """The prefill of all, less that of those that join, and the steps in which longer ones catch up; waste is a share
    of the time.
    """
    model = CostModel(costs())
    found = merger(model, running, joining, duration_s(model, joining))
    shortest = min(context for context, _ in [*running, *joining])
    count = len(running) + len(joining)
    again_s = model.prefill(count, shortest - 1) - model.prefill(
        len(joining), min(context for context, _ in joining) - 1
    )
    behind = max(context for context, _ in running) - shortest
    assert found.price_s == pytest.approx(again_s + behind * model.step(count, shortest))
    assert found.waste_per_s >= 0.0
    assert found.together_s == duration_s(model, [*running, *joining])
    assert found.apart_s == pytest.approx(remaining_s(model, running) + duration_s(model, joining))
