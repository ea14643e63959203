"""What the values say of themselves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contract.deliver import Model, ModelLoad
from headrace.contract.values import GREEDY, Priority, Sampling, Task, TokenChunk


def test_a_more_urgent_priority_is_the_smaller_number() -> None:
    """The scheduler orders by it; the label is the word in a subject."""
    assert sorted(Priority) == [Priority.REALTIME, Priority.HIGH, Priority.NORMAL, Priority.BATCH]
    assert [priority.label for priority in Priority] == ["realtime", "high", "normal", "batch"]


def test_equal_sampling_is_one_batching_key() -> None:
    """Equal in all fields, equal as a key; greedy is temperature 0, whatever else is set."""
    assert {Sampling(): 1}[GREEDY] == 1
    assert {Sampling(temperature=-0.0): 1}[GREEDY] == 1
    assert Sampling(top_k=5) != GREEDY
    assert Sampling(top_k=5).greedy
    assert not Sampling(temperature=0.1).greedy


@settings(derandomize=True)
@given(st.lists(st.integers(0, 9), max_size=9), st.integers(0, 9), st.integers(0, 5))
def test_chunks_join_where_they_meet(ids: list[int], cut: int, first: int) -> None:
    """Cut anywhere and joined, a chunk is what it was."""
    text = "".join(map(str, ids))
    whole = TokenChunk(first_index=first, token_ids=tuple(ids), text=text)
    head = TokenChunk(first_index=first, token_ids=tuple(ids[:cut]), text=text[:cut])
    tail = TokenChunk(first_index=head.next_index, token_ids=tuple(ids[cut:]), text=text[cut:])
    assert head.joined(tail) == whole
    assert whole.next_index == first + len(ids)


def test_chunks_with_a_gap_do_not_join() -> None:
    """That would be our own bug."""
    chunk = TokenChunk(first_index=0, token_ids=(1,), text="a")
    with pytest.raises(AssertionError):
        chunk.joined(TokenChunk(first_index=2, token_ids=(1,), text="a"))


@pytest.mark.parametrize(
    ("priority", "free_lanes", "seconds", "ahead", "wait_s"),
    [
        (Priority.REALTIME, 0, 2.0, 1, 4.0),
        (Priority.NORMAL, 0, 2.0, 4, 10.0),
        (Priority.BATCH, 0, 2.0, 8, 18.0),
        (Priority.BATCH, 0, 0.0, 8, None),
        (Priority.REALTIME, 2, 0.0, 1, 0.0),
        (Priority.REALTIME, 1, 0.0, 1, None),
        (Priority.NORMAL, 4, 2.0, 4, 10.0),
        (Priority.NORMAL, 5, 2.0, 4, 0.0),
    ],
)
def test_a_place_counts_those_of_the_same_or_a_more_urgent_class(
    priority: Priority, free_lanes: int, seconds: float, ahead: int, wait_s: float | None
) -> None:
    """There is no wait where lanes are free for all of them and one more; nothing known, nothing said."""
    model = Model(name="m", version="1", task=Task.GENERATE, context_length=9, lanes=9)
    load = ModelLoad(model=model, waiting=(1, 0, 3, 4), seconds_per_request=seconds, free_lanes=free_lanes)
    place = load.position(priority)
    assert (place.ahead, place.estimated_wait_s) == (ahead, wait_s)
