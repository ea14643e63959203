"""Fairness, percentiles, objectives and capacity."""

from __future__ import annotations

import pytest

from headrace.contract.values import OutcomeKind, Priority
from headrace.simulator.asked import Asked, Life
from headrace.simulator.capacity import capacity, nominal
from headrace.simulator.fairness import fairness, jain_index
from headrace.simulator.figures import part_of, percentile
from headrace.simulator.objectives import Objectives
from tests.simulator.virtual import scenario


def ended(
    index: int, tenant: str, *, start_s: float, first_s: float, last_s: float, output: int = 10
) -> Life:
    life = Life(Asked(index, 0.0, 10, output, 100, Priority.NORMAL, tenant))
    life.start_s, life.first_s, life.last_s = start_s, first_s, last_s
    life.end(OutcomeKind.COMPLETED)
    return life


def served(order: str) -> list[Life]:
    """One request a second in this order of tenants, all there from the start."""
    return [
        ended(index, tenant, start_s=float(index), first_s=index + 0.5, last_s=index + 1.0)
        for index, tenant in enumerate(order)
    ]


def test_turns_are_fairer_than_one_after_the_other() -> None:
    """In turns, the gap is about one request and Jain's index 1; a tenant that waits for the other has half of it."""
    in_turns, apart = fairness(served("ab" * 50), 100.0), fairness(served("a" * 50 + "b" * 50), 100.0)
    assert in_turns[0] > 0.99
    assert in_turns[1] <= 2 * 30
    assert apart[0] == pytest.approx(0.5, abs=0.02)
    assert apart[1] == pytest.approx(49 * 30, abs=2 * 30)


def test_who_does_not_wait_is_owed_nothing() -> None:
    """Requests that start as they come say nothing about fairness."""
    lives = served("aab")
    for life in lives:
        life.start_s = life.asked.arrival_s
    assert fairness(lives, 3.0) == (1.0, 0.0)
    assert fairness(served("aaa"), 3.0) == (1.0, 0.0)
    assert jain_index([1.0, 0.0, 0.0, 0.0]) == 0.25


def test_goodput_asks_for_both_objectives() -> None:
    """A late first token, or slow ones after it, are not good; tokens weigh a request by its output."""
    objectives = Objectives(first_token_s=(1.0,) * 4, token_s=(0.1,) * 4)
    good = ended(0, "a", start_s=0.0, first_s=1.0, last_s=1.9)
    late = ended(1, "a", start_s=0.0, first_s=1.1, last_s=1.9, output=30)
    slow = ended(2, "a", start_s=0.0, first_s=1.0, last_s=2.0)
    shed = Life(good.asked)
    shed.end(OutcomeKind.REJECTED)
    part = part_of([good, late, slow, shed], objectives)
    assert part.goodput == 0.25
    assert part.goodput_tokens == pytest.approx(10 / 60)
    assert (part.late, part.slow) == (0.25, 0.25)
    assert part.first_token_p50_s == 1.0
    assert percentile([], 0.5) == 0.0
    assert percentile([1, 2, 3, 4], 0.99) == 4


@pytest.mark.parametrize("limit", [3.0, 250.0, 100_000.0])
def test_the_search_finds_where_goodput_falls(limit: float) -> None:
    """To its precision, from wherever it starts."""
    found = capacity(lambda offered: 1.0 if offered <= limit else 0.9, scenario())
    expected = limit if limit > nominal(scenario()) / 64 else 0.0
    assert found == pytest.approx(expected, rel=0.021)
