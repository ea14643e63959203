"""What became of the places of a batch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.worker.lockstep import Use, Way, spent


@pytest.mark.parametrize(
    ("ways", "use"),
    [
        ([(5, 10)], Use(steps=10, output=10)),
        ([(5, 10), (5, 10)], Use(steps=10, output=20)),
        ([(5, 10), (5, 4)], Use(steps=10, output=14, ended=6)),
        ([(5, 10), (8, 10)], Use(steps=13, output=20, padding=3, ended=3)),
        ([(1, 10), (5, 4)], Use(steps=14, output=14)),
        ([(5, 0), (5, 0)], Use()),
        ([(5, 2), (90, 0)], Use(steps=2, output=2, padding=2)),
        ([], Use()),
    ],
)
def test_places_times_steps(ways: list[tuple[int, int]], use: Use) -> None:
    """Each place in each step makes a token, works in a prompt, or is empty; a one-token prompt runs with its like."""
    assert spent(Way(prompt=prompt, made=made) for prompt, made in ways) == use


@given(st.lists(st.tuples(st.integers(2, 50), st.integers(0, 50)), min_size=1, max_size=8))
def test_nothing_is_counted_twice(ways: list[tuple[int, int]]) -> None:
    """The three uses add up to places times steps, and none is negative."""
    use = spent(Way(prompt=prompt, made=made) for prompt, made in ways)
    assert use.output + use.padding + use.ended == len(ways) * use.steps
    assert min(use.output, use.padding, use.ended) >= 0
