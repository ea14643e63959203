"""Who decodes together."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.router.core.grouping import LOSSES_BEFORE_ALONE, form_group, goes_alone
from tests.router.core.dialogue import held


@settings(derandomize=True)
@given(compatible=st.integers(1, 40), free_lanes=st.integers(1, 12), max_batch=st.integers(1, 16))
def test_a_lane_takes_its_share_from_the_front(compatible: int, free_lanes: int, max_batch: int) -> None:
    """The smallest group with which the lanes could take all of them, up to the largest batch."""
    waiting = [held(str(index)) for index in range(compatible)]
    group = form_group(waiting[0], waiting, free_lanes=free_lanes, max_batch=max_batch)
    assert group == waiting[: len(group)]
    assert 1 <= len(group) <= max_batch
    assert len(group) == max_batch or len(group) * free_lanes >= compatible
    assert (len(group) - 1) * free_lanes < compatible, "no larger than needed"


@settings(derandomize=True)
@given(tokens=st.integers(1, 4), losses=st.integers(0, 4), free_lanes=st.integers(1, 3))
def test_who_goes_alone_takes_nobody(tokens: int, losses: int, free_lanes: int) -> None:
    """A one-token context, or a request that may be what kills workers."""
    waiting = [held(str(index), prompt_tokens=tokens, losses=losses) for index in range(9)]
    group = form_group(waiting[0], waiting, free_lanes=free_lanes, max_batch=8)
    alone = tokens == 1 or losses >= LOSSES_BEFORE_ALONE
    assert goes_alone(waiting[0]) is alone
    assert (len(group) == 1) is alone


def test_tokens_made_so_far_count_as_context() -> None:
    """A one-token prompt that was resumed is none any more."""
    assert goes_alone(held(prompt_tokens=1))
    assert not goes_alone(held(prompt_tokens=1, generated=1))


def test_the_group_is_no_view_of_the_waiting() -> None:
    """It stays as it is while its members leave the waiting list."""
    waiting = [held("a"), held("b")]
    group = form_group(waiting[0], waiting, free_lanes=1, max_batch=4)
    waiting.clear()
    assert [request.request_id for request in group] == ["a", "b"]
