"""Shares of tenants."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.router.core.fairness import SPARE_TENANTS, Fairness

SHARE = ("m", 2)


def fairness(slack: float = 2.0, **weights: float) -> Fairness:
    return Fairness(slack=slack, weights=weights)


def test_a_tenant_alone_is_never_ahead() -> None:
    """There is nobody to be fair to."""
    account = fairness(slack=0.0)
    account.joined(SHARE, "a")
    account.charge(SHARE, "a", 1e9)
    assert account.room(SHARE, "a") == inf


def test_who_is_further_ahead_than_the_slack_has_no_room() -> None:
    """The slack is counted in the largest requests."""
    account = fairness()
    account.joined(SHARE, "a")
    account.joined(SHARE, "b")
    for _ in range(2):
        account.charge(SHARE, "a", 100.0)
    assert account.room(SHARE, "a") == pytest.approx(0.0, abs=1.0)
    assert account.room(SHARE, "b") == pytest.approx(200.0, abs=1.0)
    account.charge(SHARE, "a", 100.0)
    assert account.room(SHARE, "a") < 0
    account.charge(SHARE, "b", 100.0)
    assert account.room(SHARE, "a") >= -1.0


def test_time_away_is_no_credit() -> None:
    """A tenant that comes back begins where the one with least is."""
    account = fairness()
    account.joined(SHARE, "old")
    account.joined(SHARE, "other")
    account.left(SHARE, "old")
    for _ in range(50):
        account.charge(SHARE, "other", 100.0)
    account.joined(SHARE, "old")
    account.joined(SHARE, "new")
    assert account.gap(SHARE) == pytest.approx(0.0)


def test_time_away_is_no_pardon() -> None:
    """One that is ahead and leaves for a moment is still ahead when it comes back."""
    account = fairness()
    account.joined(SHARE, "a")
    account.joined(SHARE, "b")
    account.charge(SHARE, "a", 500.0)
    account.left(SHARE, "a")
    account.joined(SHARE, "a")
    assert account.gap(SHARE) == pytest.approx(500.0)


def test_a_weight_makes_what_it_gets_cheaper() -> None:
    """A tenant of weight 4 gets four times as much."""
    account = fairness(big=4.0)
    assert account.cost("big", 100.0) == 25.0
    assert account.cost("small", 100.0) == 100.0


def test_a_wrong_guess_is_set_right() -> None:
    """By what it really got, when it ends; nobody is charged for what nobody heard of."""
    account = fairness()
    account.joined(SHARE, "a")
    account.joined(SHARE, "b")
    account.charge(SHARE, "a", 100.0)
    account.correct(SHARE, "a", -60.0)
    account.correct(("x", 0), "a", 5.0)
    assert account.gap(SHARE) == pytest.approx(40.0)


def test_counters_of_those_who_left_are_bounded() -> None:
    """Tenants may come by the million."""
    account = fairness()
    for number in range(5 * SPARE_TENANTS):
        account.joined(SHARE, str(number))
        account.charge(SHARE, str(number), 1.0)
        account.left(SHARE, str(number))
    assert len(account._accounts[SHARE].v) <= 2 * SPARE_TENANTS + 2


@settings(derandomize=True, deadline=None)
@given(
    costs=st.lists(st.tuples(st.integers(0, 2), st.floats(1, 100)), min_size=50, max_size=300),
    slack=st.floats(0, 3),
)
def test_the_gap_stays_within_the_slack_and_two_requests(
    costs: list[tuple[int, float]], slack: float
) -> None:
    """Among tenants that always have something waiting, whatever each asks for: the first that is eligible goes."""
    account = fairness(slack=slack)
    tenants = ["a", "b", "c"]
    for tenant in tenants:
        account.joined(SHARE, tenant)
    for favourite, cost in costs:
        order = tenants[favourite:] + tenants[:favourite]
        chosen = next(tenant for tenant in order if account.room(SHARE, tenant) >= 0)
        account.charge(SHARE, chosen, cost)
        assert account.gap(SHARE) <= (slack + 2) * 100
