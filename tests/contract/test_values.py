"""What the values say of themselves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contract.deliver import Model, ModelLoad
from headrace.contract.values import GREEDY, Priority, Sampling, Task, TokenChunk
from tests.contract import strategies as values


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
    joined = head.joined(tail)
    assert (joined.first_index, joined.token_ids, joined.text) == (first, whole.token_ids, text)
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


@given(values.CUT_TEXTS, st.integers(0, 8))
def test_a_chunk_can_be_cut_behind_any_token(parts: list[tuple[int, str]], cut: int) -> None:
    """And what follows the cut is what its tokens completed."""
    chunk = values.chunk_of(3, parts)
    rest = chunk.since(3 + cut)
    if cut >= len(parts):
        assert rest is None or not parts
    else:
        assert rest is not None
        assert rest.token_ids == tuple(token for token, _ in parts[cut:])
        assert rest.text == "".join(text for _, text in parts[cut:])


@given(values.CUT_TEXTS.filter(len), st.data())
def test_chunks_that_were_cut_and_joined_are_the_chunk(
    parts: list[tuple[int, str]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(1, len(parts)))
    first, rest = values.chunk_of(3, parts[:cut]), values.chunk_of(3 + cut, parts[cut:])
    joined = first.joined(rest) if rest.token_ids else first
    assert joined == values.chunk_of(3, parts)


def test_the_text_of_a_chunk_without_lengths_is_its_last_tokens() -> None:
    rest = TokenChunk(first_index=0, token_ids=(1, 2, 3), text="abc").since(2)
    assert rest == TokenChunk(first_index=2, token_ids=(3,), text="abc", text_lengths=(3,))
