"""Batches that are told to pause and to go on, from the crew to the outbox, without a router."""

from __future__ import annotations

import asyncio
import threading

import pytest

from headrace.contract.values import FinishReason
from tests.worker.crew_bench import Bench, BenchFor, fake
from tests.worker.gated_engine import GatedEngine
from tests.worker.tiny_model import batch, entry, prompt


async def free_slots(bench: Bench, count: int) -> None:
    """Until so many are free: the lanes' threads give them back, and tell nobody here."""
    async with asyncio.timeout(30):
        while f"<Gate: {count} slots free" not in repr(bench.gate):  # noqa: ASYNC110 — see above
            await asyncio.sleep(0.001)


async def test_a_paused_batch_tells_what_it_made_and_makes_no_more(bench_for: BenchFor) -> None:
    """The step that ran comes whole; the slot is free, and a batch that waited for one runs."""
    engine = GatedEngine()
    async with bench_for(engine, slots=1) as bench:
        bench.crew.start(batch(1, entry(1, prompt(6), 9), entry(2, prompt(6, 50), 9)))
        engine.let(2)
        await bench.made(2, 2)
        await engine.stands_before(3)
        bench.crew.start(batch(2, entry(3, prompt(6), 4), lane=1))
        bench.crew.pause(1)
        engine.let(1)
        await bench.made(1, 3)
        await bench.made(2, 3)
        engine.let(4)
        await bench.ended(2)
        assert [len(bench.heard(n)[0]) for n in (1, 2, 3)] == [3, 3, 4]
        assert 1 not in bench.stream.ended
        bench.crew.resume(1)
        engine.let(6)
        await bench.ended(1)
        assert [bench.finish(n) for n in (1, 2)] == [FinishReason.LENGTH] * 2


async def test_what_was_paused_comes_out_as_if_it_had_not_been(bench_for: BenchFor) -> None:
    """However often."""
    async with bench_for(fake()) as bench:
        bench.crew.start(batch(1, entry(1, prompt(6), 60)))
        await bench.ended(1)
        engine = GatedEngine()
    async with bench_for(engine) as other:
        other.crew.start(batch(1, entry(1, prompt(6), 60)))
        for _ in range(40):
            other.crew.pause(1)
            engine.let(1)
            await free_slots(other, 2)
            other.crew.resume(1)
        assert 1 not in other.stream.ended
        engine.let(60)
        await other.ended(1)
        assert other.heard(1) == bench.heard(1)


async def test_a_batch_paused_before_its_lane_is_free_does_not_begin(bench_for: BenchFor) -> None:
    """Its lane may still be in a lost router's prefill."""
    engine = GatedEngine()
    async with bench_for(engine) as bench:
        bench.crew.start(batch(1, entry(1, prompt(6), 9)))
        bench.crew.abandon()
        bench.crew.start(batch(1, entry(1, prompt(6), 2)))
        bench.crew.pause(1)
        engine.let(3)
        await free_slots(bench, 2)
        assert engine.steps_begun <= 1
        bench.crew.resume(1)
        await bench.ended(1)
        assert len(bench.heard(1)[0]) == 2


async def test_a_paused_batch_whose_entries_are_all_cancelled_frees_its_lane(
    bench_for: BenchFor,
) -> None:
    """Without a slot, which another batch has. While one of them is wanted, it stays paused."""
    engine = GatedEngine()
    async with bench_for(engine, slots=1) as bench:
        bench.crew.start(batch(1, entry(1, prompt(6), 200), entry(2, prompt(6), 200)))
        await engine.stands_before(1)
        bench.crew.pause(1)
        engine.let(1)
        await free_slots(bench, 1)
        bench.crew.start(batch(2, entry(3, prompt(6), 5), lane=1))
        await free_slots(bench, 0)
        bench.crew.cancel(1)
        assert 1 not in bench.stream.ended
        bench.crew.cancel(2)
        engine.let(6)  # the other batch may take five of them
        await bench.ended(1)
        assert [len(bench.heard(n)[0]) for n in (1, 2)] == [1, 1]


async def test_a_batch_that_waits_for_a_slot_is_cancelled_without_a_computation(
    bench_for: BenchFor,
) -> None:
    """The engine never hears of it."""
    engine = GatedEngine()
    async with bench_for(engine, slots=1) as bench:
        bench.crew.start(batch(1, entry(1, prompt(6), 200)))
        await free_slots(bench, 0)
        bench.crew.start(batch(2, entry(2, prompt(6), 200), lane=1))
        bench.crew.cancel(2)
        await bench.ended(2)
        assert engine.steps_begun <= 1


async def test_an_end_that_is_found_in_the_text_frees_a_paused_lane(bench_for: BenchFor) -> None:
    """A stop string completed by the last step before the pause: nobody would ever resume it."""
    engine = GatedEngine()
    async with bench_for(fake()) as plain:
        plain.crew.start(batch(1, entry(1, prompt(6), 9)))
        await plain.ended(1)
        first = plain.heard(1)[1][0]
    async with bench_for(engine, slots=1) as bench:
        bench.crew.start(batch(1, entry(1, prompt(6), 200, stop=(first,))))
        await engine.stands_before(1)
        bench.crew.pause(1)
        engine.let(2)
        await bench.ended(1)
        assert bench.finish(1) is FinishReason.STOP


@pytest.mark.parametrize("how", ["abandon", "hand_back"])
async def test_paused_batches_end_with_their_router(bench_for: BenchFor, how: str) -> None:
    """Their lanes are free for the next one, and their threads end with the process."""
    async with bench_for(fake(), slots=1) as bench:
        for lane in (0, 1):
            bench.crew.start(batch(lane, entry(lane, prompt(6), 100_000), lane=lane))
            bench.crew.pause(lane)
        getattr(bench.crew, how)()
        await bench.crew.idle()
        bench.crew.start(batch(7, entry(7, prompt(6), 3)))
        await bench.ended(7)
        await free_slots(bench, 1)
        assert (0 in bench.stream.heard) is (how == "hand_back")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lane-")]


async def test_what_is_said_of_a_batch_that_is_not_there_is_ignored(bench_for: BenchFor) -> None:
    """It has ended while the word was on its way."""
    async with bench_for(fake()) as bench:
        bench.crew.pause(1)
        bench.crew.resume(1)
        bench.crew.start(batch(1, entry(1, prompt(6), 3)))
        await bench.ended(1)
        bench.crew.pause(1)
        bench.crew.start(batch(2, entry(2, prompt(6), 3)))
        await bench.ended(2)


async def test_a_paused_batch_shows_now_and_then_that_it_lives(bench_for: BenchFor) -> None:
    """A step each time, without a slot, which another batch has; in the end it is done."""
    engine = GatedEngine()
    async with bench_for(engine, slots=1, paused_step_s=0.005) as bench:
        bench.crew.start(batch(1, entry(1, prompt(6), 20)))
        engine.let(1)
        await bench.made(1, 1)
        bench.crew.start(batch(2, entry(2, prompt(6), 3), lane=1))
        bench.crew.pause(1)
        engine.let(22)
        await bench.ended(1)
        await bench.ended(2)
        assert len(bench.heard(1)[0]) == 20
        await free_slots(bench, 1)
