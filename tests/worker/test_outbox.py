"""What the outbox merges, and in which order it lets it go."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contract.values import FinishReason, TokenChunk
from headrace.contract.work import BatchEnded, EntryEnd, EntryProgress, WorkerMessage
from headrace.worker import outbox as module
from headrace.worker.outbox import Outbox

END = EntryEnd(finish_reason=FinishReason.LENGTH)
PATIENCE_S = 60.0


async def take(outbox: Outbox) -> WorkerMessage:
    message = await outbox.take(PATIENCE_S)
    assert message is not None
    return message


async def test_what_is_ready_goes_in_one_message() -> None:
    """Tokens of an assignment become one chunk, and the batch's end comes with them."""
    outbox = Outbox()
    outbox.add_token(1, 5, 70, "a")
    outbox.add_token(2, 0, 80, "x")
    outbox.add_token(1, 6, 71, "b")
    outbox.add_end(1, END)
    outbox.add_batch_ended(9, 0)
    assert await take(outbox) == WorkerMessage(
        progress=(
            EntryProgress(
                assignment=1,
                tokens=TokenChunk(first_index=5, token_ids=(70, 71), text="ab", text_lengths=(1, 1)),
                end=END,
            ),
            EntryProgress(assignment=2, tokens=TokenChunk(first_index=0, token_ids=(80,), text="x")),
        ),
        ended=(BatchEnded(batch=9, lane=0),),
    )


async def test_an_end_without_tokens_is_told_too() -> None:
    """An entry may end without a token of its own."""
    outbox = Outbox()
    outbox.add_end(4, EntryEnd(cancelled=True))
    assert (await take(outbox)).progress == (EntryProgress(assignment=4, end=EntryEnd(cancelled=True)),)


async def test_it_waits_for_something_and_not_for_more() -> None:
    """A taker that waits has the first token at once; one that waits in vain has an empty message."""
    outbox = Outbox()
    taking = asyncio.create_task(take(outbox))
    await asyncio.sleep(0)
    assert not taking.done()
    outbox.add_token(1, 0, 70, "a")
    assert len((await taking).progress) == 1
    assert await outbox.take(0.001) == WorkerMessage()


async def test_closed_it_gives_what_is_left_and_then_none() -> None:
    """Nothing is lost by closing; reset opens it again, empty."""
    outbox = Outbox()
    outbox.add_token(1, 0, 70, "a")
    outbox.tell_draining()
    outbox.close()
    assert (await take(outbox)).draining
    assert await outbox.take(PATIENCE_S) is None
    outbox.add_token(1, 1, 70, "a")
    outbox.reset()
    assert await outbox.take(0.001) == WorkerMessage()


@given(
    counts=st.lists(st.integers(0, 25), min_size=1, max_size=5),
    data=st.data(),
)
def test_a_message_is_bounded_and_loses_nothing(counts: list[int], data: st.DataObject) -> None:
    """Over the bound it is cut between tokens; ends stay after the last token, the batch's end after all."""

    async def check(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_TOKENS", 10)
        outbox = Outbox()
        for assignment, count in enumerate(counts):
            for index in range(count):
                outbox.add_token(assignment, index, index, chr(97 + index % 26))
            outbox.add_end(assignment, END)
        outbox.add_batch_ended(1, 0)
        outbox.close()
        chunks: dict[int, list[TokenChunk]] = {assignment: [] for assignment in range(len(counts))}
        ended: set[int] = set()
        while (message := await outbox.take(PATIENCE_S)) is not None:
            assert sum(len(p.tokens.token_ids) for p in message.progress if p.tokens) <= 10
            for progress in message.progress:
                assert progress.assignment not in ended
                if progress.tokens:
                    chunks[progress.assignment].append(progress.tokens)
                if progress.end:
                    ended.add(progress.assignment)
            assert not message.ended or len(ended) == len(counts)
        assert len(ended) == len(counts)
        for assignment, count in enumerate(counts):
            ids = [token_id for chunk in chunks[assignment] for token_id in chunk.token_ids]
            assert ids == list(range(count))
            assert len("".join(chunk.text for chunk in chunks[assignment])) == count

    with pytest.MonkeyPatch.context() as monkeypatch:
        asyncio.run(check(monkeypatch))
