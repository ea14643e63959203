"""The relay gives each index once and in order, whatever the routers send."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contract.errors import DeadlinePassed
from headrace.contract.values import Outcome, OutcomeKind, QueuePosition, TokenChunk, Usage
from headrace.gateway.relay import MAX_CHARACTERS, MAX_TOKENS, Relay

TEXT = "The quick brown fox jumps"


def piece(first: int, end: int) -> TokenChunk:
    """Tokens `first` to `end` of TEXT, a token per character; the text of odd tokens comes with the next one."""
    return TokenChunk(
        first_index=first,
        token_ids=tuple(map(ord, TEXT[first:end])),
        text=TEXT[shown(first) : shown(end)],
        text_lengths=tuple(shown(i + 1) - shown(i) for i in range(first, end)),
    )


def shown(tokens: int) -> int:
    """How much of TEXT that many tokens complete."""
    return tokens - tokens % 2 if tokens < len(TEXT) else tokens


def whole(kind: OutcomeKind = OutcomeKind.COMPLETED) -> Outcome:
    return Outcome(
        request_id="id",
        kind=kind,
        model="m",
        usage=Usage(output_tokens=len(TEXT)),
        text=TEXT,
        token_ids=tuple(map(ord, TEXT)),
        text_lengths=piece(0, len(TEXT)).text_lengths,
    )


def drained(relay: Relay) -> list[TokenChunk]:
    """All chunks that can be read now."""
    chunks = []
    while isinstance(event := relay.take(), TokenChunk):
        chunks.append(event)
    return chunks


# What routers send: consecutive chunks, cut anywhere; at any time one goes back and sends again from any index, as a
# router that takes over does.
@st.composite
def sendings(draw: st.DrawFn) -> list[TokenChunk]:
    sent, at = [], 0
    for _ in range(draw(st.integers(1, 30))):
        if draw(st.integers(0, 5)) == 0:
            at = draw(st.integers(0, at))
        if at == len(TEXT):
            continue
        end = draw(st.integers(at + 1, min(at + 6, len(TEXT))))
        sent.append(piece(at, end))
        at = end
    return sent


@given(sendings(), st.lists(st.booleans(), min_size=30, max_size=30), st.integers(0, len(TEXT)))
def test_any_interleaving_of_pushes_and_reads_gives_each_index_once(
    sent: list[TokenChunk], reads: list[bool], first: int
) -> None:
    """Whenever the client reads, it gets the next indices and their text, from the one it wants on; the rest comes from
    the durable outcome.
    """
    relay, got = Relay(first), list[TokenChunk]()
    for chunk, read in zip(sent, reads, strict=False):
        relay.push(chunk)
        if read:
            got += drained(relay)
    got += drained(relay)
    if relay.lacks(whole()):
        rest = relay.rest_of(whole())
        assert rest is not None
        got.append(rest)
    at = first
    for chunk in got:
        assert chunk == piece(at, chunk.next_index)
        at = chunk.next_index
    assert at == len(TEXT)


@given(st.lists(st.tuples(st.integers(0, len(TEXT) - 1), st.integers(1, 6)), max_size=40))
def test_whatever_is_pushed_the_output_is_a_true_prefix(pairs: list[tuple[int, int]]) -> None:
    """Chunks with gaps and overlaps anywhere never put a token or a letter in a wrong place."""
    relay = Relay()
    for first, length in pairs:
        relay.push(piece(first, min(first + length, len(TEXT))))
    output = relay.output
    assert drained(relay) == ([] if output is None else [output])
    if output is not None:
        assert output == piece(0, output.next_index)


def test_while_the_client_is_slow_tokens_are_joined_to_one_chunk() -> None:
    """However many chunks arrive, they leave as one."""
    relay = Relay()
    for index in range(10):
        relay.push(piece(index, index + 1))
    assert drained(relay) == [piece(0, 10)]


def test_no_chunk_is_larger_than_a_message() -> None:
    """A client that slept through a long generation gets it in several messages, each within its limit."""
    relay = Relay()
    for index in range(2 * MAX_TOKENS):
        relay.push(TokenChunk(first_index=index, token_ids=(index,), text="x" * 100))
    chunks = drained(relay)
    assert sum(len(chunk.text) for chunk in chunks) == 200 * MAX_TOKENS
    assert max(len(chunk.token_ids) for chunk in chunks) <= MAX_TOKENS
    assert max(len(chunk.text) for chunk in chunks) <= MAX_CHARACTERS


@given(st.integers(0, 3), st.integers(1, 3 * MAX_TOKENS), st.integers(0, 400))
@settings(max_examples=20, deadline=None)
def test_a_whole_output_leaves_in_pieces_that_fit(first: int, tokens: int, characters: int) -> None:
    """The output of an ended request comes as one chunk; none of its tokens and letters is lost where it is cut."""
    chunk = TokenChunk(
        first_index=0,
        token_ids=tuple(range(tokens)),
        text="xyz"[:1] * (characters * tokens),
        text_lengths=(characters,) * tokens,
    )
    relay = Relay(first)
    assert relay.push(chunk)
    chunks = drained(relay)
    assert max((len(part.token_ids) for part in chunks), default=0) <= MAX_TOKENS
    assert max((len(part.text) for part in chunks), default=0) <= MAX_CHARACTERS
    whole: TokenChunk | None = None
    for part in chunks:
        whole = part if whole is None else whole.joined(part)
    assert whole == chunk.since(first)


def test_a_gap_is_told_and_nothing_after_it_is_given() -> None:
    """Tokens beyond a lost one are no use to the client before it."""
    relay = Relay()
    assert relay.push(piece(0, 2))
    assert not relay.push(piece(4, 6))
    assert drained(relay) == [piece(0, 2)]
    assert relay.lacks(whole())
    assert relay.rest_of(whole()) == piece(2, len(TEXT))


def test_an_outcome_of_other_tokens_fills_no_gap() -> None:
    """What the client has and what the outcome holds must be the same generation."""
    relay = Relay()
    relay.push(TokenChunk(first_index=0, token_ids=(1, 2), text="xy"))
    assert relay.rest_of(whole()) is None


def test_only_a_completed_generation_can_lack_tokens() -> None:
    """What a cancelled one had made when it ended matters to nobody."""
    assert not Relay().lacks(whole(OutcomeKind.CANCELLED))


async def test_reads_tokens_before_the_outcome_and_no_place_after_the_first_token() -> None:
    """A place in the queue is news only while nothing runs; the outcome is last."""
    relay = Relay()
    relay.queued(QueuePosition(ahead=3, estimated_wait_s=1.0))
    relay.queued(QueuePosition(ahead=2, estimated_wait_s=0.5))
    assert await relay.read() == QueuePosition(ahead=2, estimated_wait_s=0.5)
    relay.queued(QueuePosition(ahead=1, estimated_wait_s=0.5))
    relay.finish(whole())
    relay.push(piece(0, 1))
    assert await relay.read() == whole()


async def test_a_waiting_reader_is_woken() -> None:
    """Nothing is polled: the push wakes the reader."""
    relay = Relay()
    reading = asyncio.create_task(relay.read())
    await asyncio.sleep(0)
    relay.push(piece(0, 1))
    assert await reading == piece(0, 1)


async def test_fails_only_after_what_is_there_was_read() -> None:
    """A deadline takes nothing away that has arrived, and an outcome in time counts more."""
    relay = Relay()
    relay.push(piece(0, 1))
    relay.fail(DeadlinePassed(0.0))
    assert await relay.read() == piece(0, 1)
    with pytest.raises(DeadlinePassed):
        await relay.read()
    relay.finish(whole())
    assert await relay.read() == whole()
