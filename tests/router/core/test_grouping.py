"""Who decodes together."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.router.core.cost import CostModel
from headrace.router.core.grouping import LOSSES_BEFORE_ALONE, Group, GroupRules, form_group, goes_alone
from headrace.router.core.held import Held
from headrace.router.core.lockstep import duration_s, moments_s
from tests.router.core.dialogue import costs, held

CHEAP = costs(step_s=0.01, per_entry_s=0.001, prefill_s=0.0001)
"""A further entry costs a tenth of a step."""


def extent(request: Held) -> tuple[int, float]:
    return (request.context, float(request.max_tokens))


def rules(**changes: Any) -> GroupRules:
    fields: dict[str, Any] = {
        "cap": 8,
        "max_skew": 64,
        "gain": 1.02,
        "misses": 4,
        "prefill_s": inf,
        "company_s": 0.0,
        "token_s": inf,
        "extent": extent,
        "first_token_within_s": lambda _: inf,
        "hopeless": lambda _: False,
        "room": lambda _: inf,
        "cost": lambda request: float(request.prompt_tokens),
    }
    return GroupRules(**{**fields, **changes})


def group(requests: list[Held], model: CostModel | None = None, **changes: Any) -> Group:
    head, *others = requests
    nearest = sorted(others, key=lambda other: abs(other.context - head.context))
    return form_group(head, nearest, model or CostModel(CHEAP), rules(**changes))


def names(formed: Group) -> list[str]:
    return [request.request_id for request in formed.members]


def test_equals_go_together_up_to_the_cap() -> None:
    """Where a larger batch pays."""
    assert names(group([held(name) for name in "abcdef"], cap=4)) == ["a", "b", "c", "d"]
    assert names(group([held(name) for name in "abc"], cap=1)) == ["a"]


def test_nobody_is_taken_who_does_not_pay() -> None:
    """Where two take longer together than one after the other, they go one after the other."""
    dear = CostModel(costs(step_s=0.001, per_entry_s=0.1))
    assert names(group([held(name) for name in "abc"], dear)) == ["a"]


@settings(derandomize=True, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(2, 300), st.integers(1, 100)), min_size=1, max_size=12),
    cap=st.integers(1, 8),
    max_skew=st.integers(0, 200),
)
def test_a_group_keeps_its_bounds_and_saves_time(
    lengths: list[tuple[int, int]], cap: int, max_skew: int
) -> None:
    """The head is in it; cap and skew hold; what it is said to take is what it takes, and less than one by one."""
    requests = [held(str(i), prompt_tokens=p, max_tokens=m) for i, (p, m) in enumerate(lengths)]
    model = CostModel(CHEAP)
    formed = group(requests, model, cap=cap, max_skew=max_skew)
    assert formed.members[0] is requests[0]
    assert len(formed.members) <= cap
    contexts = [request.context for request in formed.members]
    assert max(contexts) - min(contexts) <= max_skew
    assert list(formed.extents) == [extent(request) for request in formed.members]
    assert formed.expected_s == pytest.approx(duration_s(model, formed.extents))
    assert formed.apart_s == pytest.approx(sum(duration_s(model, [one]) for one in formed.extents))
    assert formed.expected_s <= formed.apart_s + 1e-9


def test_those_who_do_not_pay_do_not_hide_those_who_do() -> None:
    """Some that are nearer may be passed over, but not for ever."""
    head = held("head", prompt_tokens=100, max_tokens=10)
    bad = [held(f"bad{i}", prompt_tokens=99, max_tokens=1) for i in range(3)]
    good = held("good", prompt_tokens=110, max_tokens=60)
    dear = CostModel(costs(step_s=0.01, per_entry_s=0.006, prefill_s=0.001))
    assert "good" in names(group([head, *bad, good], dear, misses=9, max_skew=20)) or names(
        group([head, good], dear, max_skew=20)
    ) == ["head"]


def test_a_batch_grows_no_larger_than_the_objective_per_token_allows() -> None:
    """A step of three takes 13 ms."""
    requests = [held(name) for name in "abcde"]
    assert len(group(requests, token_s=0.0125).members) == 2
    assert len(group(requests, token_s=0.0135).members) == 3


def test_nobody_makes_the_first_token_of_another_late() -> None:
    """Nor is one taken that would itself be late by it; one that is late anyway does not count."""
    head, long = held("head", prompt_tokens=10), held("long", prompt_tokens=15)
    firsts = [first for first, _ in moments_s(CostModel(CHEAP), [extent(head), extent(long)])]

    def within(**bounds: float) -> Callable[[Held], float]:
        return lambda request: bounds[request.request_id]

    both = ["head", "long"]
    assert names(group([head, long], first_token_within_s=within(head=1.0, long=firsts[1] + 0.01))) == both
    assert names(group([head, long], first_token_within_s=within(head=1.0, long=firsts[1] - 0.01))) == [
        "head"
    ]
    assert names(group([head, long], first_token_within_s=within(head=-1.0, long=firsts[1] + 0.01))) == both


def test_one_that_is_hopeless_is_not_taken_along() -> None:
    """It is refused when it is its turn."""
    requests = [held(name) for name in "abc"]
    assert names(group(requests, hopeless=lambda request: request.request_id == "b")) == ["a", "c"]


def test_companions_pass_the_same_test_of_fairness() -> None:
    """A tenant that has used up its room sends nobody along, what the group itself gives it included."""
    requests = [held(name, tenant=name[0]) for name in ("a1", "a2", "a3", "b1", "b2")]
    room = {"a": 15.0, "b": -1.0}
    assert names(group(requests, room=lambda tenant: room[tenant])) == ["a1", "a2"]


@settings(derandomize=True)
@given(tokens=st.integers(1, 4), losses=st.integers(0, 4))
def test_who_goes_alone(tokens: int, losses: int) -> None:
    """A one-token context, or a request that may be what kills workers."""
    alone = tokens == 1 or losses >= LOSSES_BEFORE_ALONE
    assert goes_alone(held(prompt_tokens=tokens, losses=losses)) is alone


def test_tokens_made_so_far_count_as_context() -> None:
    """A one-token prompt that was resumed is none any more."""
    assert goes_alone(held(prompt_tokens=1))
    assert not goes_alone(held(prompt_tokens=1, generated=1))
