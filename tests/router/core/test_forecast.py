"""How much output is still to come."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.router.core.forecast import Forecast


def learnt(*outputs: int, limit: int = 10_000, times: int = 300) -> Forecast:
    forecast = Forecast()
    for _ in range(times):
        for output in outputs:
            forecast.observe(min(output, limit), ended=output < limit)
    return forecast


def test_outputs_of_one_length_are_expected_to_be_of_that_length() -> None:
    """About, as chances are learnt by stretches."""
    assert learnt(100).remaining(0, 4_000) == pytest.approx(100, rel=0.2)


def test_the_mean_of_what_was_seen_is_what_is_expected() -> None:
    """Of short and long ones alike."""
    assert learnt(20, 180).remaining(0, 4_000) == pytest.approx(100, rel=0.2)


def test_one_that_has_outlived_the_short_ones_is_a_long_one() -> None:
    """After 100 tokens, the rest of 200."""
    assert learnt(20, 200).remaining(100, 4_000) == pytest.approx(100, rel=0.35)


def test_limits_hide_how_long_outputs_would_be() -> None:
    """Where all were cut at 50, one that may make 400 is not expected to make 50."""
    cut = learnt(1_000, limit=50)
    assert cut.remaining(0, 50) == pytest.approx(50, rel=0.05)
    assert cut.remaining(0, 400) > 150


def test_what_was_seen_long_ago_counts_less() -> None:
    """A model that is asked for something else is learnt anew."""
    forecast = learnt(400, times=3_000)
    for _ in range(12_000):
        forecast.observe(20, ended=True)
    assert forecast.remaining(0, 4_000) == pytest.approx(20, rel=0.3)


@settings(derandomize=True, deadline=None)
@given(
    outputs=st.lists(st.tuples(st.integers(0, 9_000), st.booleans()), max_size=60),
    generated=st.integers(0, 9_000),
    left=st.integers(0, 9_000),
)
def test_it_is_at_least_a_token_and_at_most_what_the_limit_leaves(
    outputs: list[tuple[int, bool]], generated: int, left: int
) -> None:
    """Whatever was seen."""
    forecast = Forecast()
    for made, ended in outputs:
        forecast.observe(made, ended=ended)
    remaining = forecast.remaining(generated, generated + left)
    assert 1.0 <= remaining <= max(1.0, left)
    assert forecast.remaining(generated, generated + left + 50) >= remaining - 1e-6
