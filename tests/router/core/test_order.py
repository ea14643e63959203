"""The order of the queue."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.router.core.held import Held
from headrace.router.core.order import promoted_s, rank
from tests.router.core.dialogue import held

AGEING_S = 5.0
WHOLE = st.integers(0, 9).map(float)
HELD = st.builds(
    held,
    request_id=st.text("ab", min_size=1, max_size=3),
    arrived_s=WHOLE,
    deadline_s=st.none() | WHOLE,
)


def due_s(request: Held) -> float:
    ages_s = request.arrived_s + AGEING_S
    return ages_s if request.deadline_s is None else min(ages_s, request.deadline_s)


@settings(derandomize=True)
@given(HELD, HELD)
def test_due_then_arrival_then_id(one: Held, other: Held) -> None:
    """A difference in an earlier part decides, whatever the later ones say."""
    if due_s(one) != due_s(other):
        expected = due_s(one) < due_s(other)
    elif one.arrived_s != other.arrived_s:
        expected = one.arrived_s < other.arrived_s
    else:
        expected = one.request_id < other.request_id
    assert (rank(one, AGEING_S) < rank(other, AGEING_S)) is expected


@settings(derandomize=True)
@given(HELD, st.integers(0, 9), st.integers(0, 9))
def test_a_place_does_not_change_with_what_happens_to_it(request: Held, generated: int, losses: int) -> None:
    """A resumed request has the place that it had: nobody overtakes it for its bad luck."""
    before = rank(request, AGEING_S)
    request.generated, request.losses, request.attempts = generated, losses, losses
    assert rank(request, AGEING_S) == before


def test_each_class_takes_as_long_to_age() -> None:
    """From the time at which the broker accepted it."""
    request = held(arrived_s=100.0)
    times = []
    while request.level:
        times.append(promoted_s(request, AGEING_S))
        request.level -= 1
    assert times == [105.0, 110.0]
