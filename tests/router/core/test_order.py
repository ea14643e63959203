"""The order of the queue."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contract.values import Priority
from headrace.router.core.held import Held
from headrace.router.core.order import rank
from tests.router.core.dialogue import held

HELD = st.builds(
    held,
    request_id=st.text("ab", min_size=1, max_size=3),
    priority=st.sampled_from(Priority),
    arrived_s=st.floats(0, 4, allow_nan=False).map(round).map(float),
)


@settings(derandomize=True)
@given(HELD, HELD)
def test_class_then_arrival_then_id(one: Held, other: Held) -> None:
    """A difference in an earlier part decides, whatever the later ones say."""
    if one.priority != other.priority:
        expected = one.priority < other.priority
    elif one.arrived_s != other.arrived_s:
        expected = one.arrived_s < other.arrived_s
    else:
        expected = one.request_id < other.request_id
    assert (rank(one) < rank(other)) is expected


@settings(derandomize=True)
@given(HELD, st.integers(0, 9), st.integers(0, 9))
def test_a_place_does_not_change_with_what_happens_to_it(request: Held, generated: int, losses: int) -> None:
    """A resumed request has the place that it had: nobody overtakes it for its bad luck."""
    before = rank(request)
    request.generated, request.losses, request.attempts = generated, losses, losses
    assert rank(request) == before
