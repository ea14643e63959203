"""Texts through a lane to the outbox, without a router: cut by length, paused, cancelled, failed."""

from __future__ import annotations

import asyncio
import dataclasses
import struct
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from headrace.contract.values import GREEDY, FinishReason, Vector
from headrace.contract.work import BatchEntry, ServedModel, StartBatch, WorkerMessage
from headrace.models.store import ModelStore
from headrace.runtime import metric_names as names
from headrace.runtime.metrics import Metrics
from headrace.worker.crew import Crew
from headrace.worker.encoder import EncoderOnly, check_texts
from headrace.worker.gate import Gate
from headrace.worker.lane import Lane
from headrace.worker.metrics import WorkerMetrics
from headrace.worker.outbox import MAX_TOKENS, TOKEN_BYTES, Outbox
from headrace.worker.speeds import Speeds
from tests.worker.gated_engine import CONTEXT, VOCAB_SIZE, serving

LIMIT_S = 20.0


class GatedEncoder:
    """A text's vector is its length and its first token. Computes a piece each time that it is let."""

    def __init__(self, *, open_: bool = True) -> None:
        self.pieces: list[list[int]] = []
        """The lengths of the texts of each piece."""
        self.began = threading.Semaphore(0)
        self._go = threading.Semaphore(10_000 if open_ else 0)
        self.fails = False

    def let(self, pieces: int) -> None:
        for _ in range(pieces):
            self._go.release()

    def embed(self, texts: Sequence[Sequence[int]]) -> list[Vector]:
        check_texts(texts, VOCAB_SIZE)
        self.pieces.append([len(text) for text in texts])
        self.began.release()
        self._go.acquire()
        if self.fails:
            raise RuntimeError("the engine was told to fail")
        return [struct.pack("<2f", len(text), text[0]) for text in texts]

    def close(self) -> None:
        pass


@dataclasses.dataclass
class Heard:
    """What the router would hear."""

    crew: Crew
    metrics: Metrics
    speeds: Speeds
    served: ServedModel
    vectors: dict[int, list[tuple[float, ...]]] = dataclasses.field(default_factory=dict)
    ends: dict[int, Any] = dataclasses.field(default_factory=dict)
    ended: list[int] = dataclasses.field(default_factory=list)
    news: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    def take(self, message: WorkerMessage) -> None:
        for progress in message.progress:
            assert progress.assignment not in self.ends, "exactly one end"
            self.ends[progress.assignment] = progress.end
            self.vectors[progress.assignment] = [struct.unpack("<2f", one) for one in progress.vectors]
        self.ended += [one.batch for one in message.ended]
        self.news.set()

    async def batch_ended(self, number: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while number not in self.ended:
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def crew_of(encoder: GatedEncoder, store: ModelStore, piece_tokens: int = 27) -> AsyncIterator[Heard]:
    """One lane, one slot."""
    outbox = Outbox()
    model = dataclasses.replace(serving(EncoderOnly(encoder), store), encoder=encoder)
    async with AsyncExitStack() as stack:
        lanes = [await stack.enter_async_context(Lane(index)) for index in range(2)]
        gate = Gate(1, paused_step_s=3600)
        metrics, speeds = Metrics(), Speeds()
        crew = Crew(
            lanes,
            {"m": model},
            outbox,
            gate,
            max_batch=4,
            piece_tokens=piece_tokens,
            name="w",
            tracer=None,
            metrics=WorkerMetrics(metrics),
            speeds=speeds,
        )
        heard = Heard(crew, metrics, speeds, model.served)

        async def forward() -> None:
            while (message := await outbox.take(60)) is not None:
                heard.take(message)

        forwarding = asyncio.create_task(forward())
        try:
            yield heard
        finally:
            crew.abandon()
            encoder.let(100)
            await crew.idle()
            outbox.close()
            await forwarding


def start(number: int, *entries: BatchEntry, lane: int = 0) -> StartBatch:
    return StartBatch(batch=number, lane=lane, model="m", sampling=GREEDY, entries=entries)


def entry(assignment: int, *lengths: int) -> BatchEntry:
    """Texts of so many tokens, each beginning with the entry's own."""
    return BatchEntry(
        assignment=assignment,
        request_id=f"r{assignment}",
        attempt=1,
        prompt=(),
        max_tokens=1,
        texts=tuple((assignment, *(9,) * (length - 1)) for length in lengths),
    )


async def test_texts_of_all_entries_are_computed_in_pieces_of_near_length(store: ModelStore) -> None:
    """Sorted over the entries; each entry gets its own vectors, in the order of its texts."""
    encoder = GatedEncoder()
    async with crew_of(encoder, store) as heard:
        heard.crew.start(start(1, entry(1, 5, 1, 9), entry(2, 8), entry(3, 2, 7)))
        await heard.batch_ended(1)
        assert encoder.pieces == [[9, 8], [7, 5, 2, 1]], "two, of about half the tokens each"
        assert heard.vectors == {
            1: [(5.0, 1.0), (1.0, 1.0), (9.0, 1.0)],
            2: [(8.0, 2.0)],
            3: [(2.0, 3.0), (7.0, 3.0)],
        }
        assert {end.finish_reason for end in heard.ends.values()} == {FinishReason.END}


async def test_what_nobody_wants_any_more_is_left_out(store: ModelStore) -> None:
    """A cancelled entry ends at once, its texts are not computed, and the others have theirs."""
    encoder = GatedEncoder(open_=False)
    async with crew_of(encoder, store) as heard:
        heard.crew.start(start(1, entry(1, 9, 9, 9, 1, 1), entry(2, 5)))
        await asyncio.to_thread(encoder.began.acquire)
        heard.crew.cancel(1)
        encoder.let(10)
        await heard.batch_ended(1)
        assert encoder.pieces == [[9, 9], [5]]
        assert heard.ends[1].cancelled
        assert heard.vectors == {1: [], 2: [(5.0, 2.0)]}


async def test_a_paused_batch_stands_still_between_two_pieces(store: ModelStore) -> None:
    """Another batch has the slot meanwhile, and then it goes on."""
    encoder = GatedEncoder(open_=False)
    async with crew_of(encoder, store) as heard:
        heard.crew.start(start(1, entry(1, 9, 8, 7, 6)))
        await asyncio.to_thread(encoder.began.acquire)
        heard.crew.pause(1)
        heard.crew.start(start(2, entry(2, 5), lane=1))
        encoder.let(2)  # the piece that runs, and the other batch
        await heard.batch_ended(2)
        assert encoder.pieces == [[9, 8], [5]]
        heard.crew.resume(1)
        encoder.let(1)
        await heard.batch_ended(1)
        assert encoder.pieces == [[9, 8], [5], [7, 6]]
        assert len(heard.vectors[1]) == 4


async def test_texts_and_padding_are_counted(store: ModelStore) -> None:
    """As they were computed: by piece, with what fills the shorter ones up; and the speed is known."""
    encoder = GatedEncoder()
    async with crew_of(encoder, store) as heard:
        heard.crew.start(start(1, entry(1, 9, 2), entry(2, 8, 7, 1), entry(3, 5)))
        await heard.batch_ended(1)
        assert encoder.pieces == [[9, 8], [7, 5, 2, 1]]
        assert heard.metrics.values(names.WORKER_TEXTS)[("m",)] == 6
        assert heard.metrics.values(names.TEXT_PLACES)[("m", "text")] == 32
        assert heard.metrics.values(names.TEXT_PLACES)[("m", "padding")] == 1 + (2 + 5 + 6)
        assert heard.speeds.of(heard.served.name, heard.served.version) > 0


async def test_texts_of_a_batch_that_nobody_wants_are_not_counted(store: ModelStore) -> None:
    """Only what was computed is."""
    encoder = GatedEncoder(open_=False)
    async with crew_of(encoder, store) as heard:
        heard.crew.start(start(1, entry(1, 20, 9)))
        await asyncio.to_thread(encoder.began.acquire)
        heard.crew.cancel(1)
        encoder.let(1)
        await heard.batch_ended(1)
        assert heard.metrics.values(names.WORKER_TEXTS)[("m",)] == 1
        assert heard.metrics.values(names.TEXT_PLACES)[("m", "text")] == 20
        assert ("m", "padding") not in heard.metrics.values(names.TEXT_PLACES)


async def test_an_engine_that_fails_fails_what_has_no_vectors(store: ModelStore) -> None:
    """What was told before stays, and the lane takes the next batch."""
    encoder = GatedEncoder(open_=False)
    async with crew_of(encoder, store) as heard:
        heard.crew.start(start(1, entry(1, 20), entry(2, 9)))
        await asyncio.to_thread(encoder.began.acquire)
        encoder.let(1)
        await asyncio.to_thread(encoder.began.acquire)
        encoder.fails = True
        encoder.let(1)
        await heard.batch_ended(1)
        assert heard.ends[1].finish_reason is FinishReason.END
        assert heard.ends[2].failure.code == "ENGINE_FAILED"
        encoder.fails = False
        encoder.let(1)
        heard.crew.start(start(2, entry(3, 1)))
        await heard.batch_ended(2)
        assert heard.ends[3].finish_reason is FinishReason.END


@pytest.mark.parametrize(
    ("texts", "field"),
    [
        ((), "texts"),
        (((1,), ()), "texts[1]"),
        (((1,) * (CONTEXT + 1),), "texts[0]"),
        (((1,), (1,), (VOCAB_SIZE,)), "texts[2]"),
    ],
)
async def test_an_entry_that_cannot_run_is_answered_by_its_text(
    store: ModelStore, texts: tuple[tuple[int, ...], ...], field: str
) -> None:
    """Before anything is computed, and the others run."""
    encoder = GatedEncoder()
    async with crew_of(encoder, store) as heard:
        bad = dataclasses.replace(entry(1), texts=texts)
        heard.crew.start(start(1, bad, entry(2, 4)))
        await heard.batch_ended(1)
        assert heard.ends[1].failure.field == field
        assert heard.vectors[2] == [(4.0, 2.0)]
        assert encoder.pieces == [[4]]


async def test_a_message_holds_as_many_vectors_as_it_has_room_for() -> None:
    """One entry's at least, and an end of the batch only behind all of them."""
    outbox = Outbox()
    from headrace.contract.work import EntryEnd

    vector = b"\0" * (MAX_TOKENS * TOKEN_BYTES * 2 // 3)
    for assignment in (1, 2, 3):
        outbox.add_vectors(assignment, (vector,), EntryEnd(finish_reason=FinishReason.END))
    outbox.add_batch_ended(1, 0)
    sent = []
    for _ in range(3):
        message = await outbox.take(1)
        assert message is not None
        sent.append(([progress.assignment for progress in message.progress], len(message.ended)))
    assert sent == [([1], 0), ([2], 0), ([3], 1)]
