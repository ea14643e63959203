"""Batches through lanes to the outbox, without a router."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from headrace.contract.values import FinishReason, Sampling
from headrace.models.fake import FakeTiming
from headrace.worker.engine import OnToken
from headrace.worker.fake_engine import END_SOON, FAIL_AT_ONCE, FAIL_LATER, FAILING_STEP, FakeEngine
from tests.worker.crew_bench import BenchFor, fake
from tests.worker.gated_engine import CONTEXT, VOCAB_SIZE, GatedEngine
from tests.worker.tiny_model import batch, entry, prompt


async def test_each_entry_ends_at_its_own_count(bench_for: BenchFor) -> None:
    """max_tokens is each entry's own, and the batch's end comes last."""
    async with bench_for(fake()) as bench:
        bench.crew.start(batch(1, *(entry(n, prompt(6, 40 + n), n) for n in (1, 5, 3)), lane=1))
        await bench.ended(1)
        for n in (1, 5, 3):
            assert len(bench.heard(n)[0]) == n
            assert bench.finish(n) is FinishReason.LENGTH
        assert bench.stream.ended == {1: 1}


async def test_the_loop_is_woken_once_per_step(bench_for: BenchFor) -> None:
    """Not once per token: 4 entries × 10 steps are 10 wake-ups, and one for the end."""
    engine = GatedEngine()
    async with bench_for(engine) as bench:
        bench.crew.start(batch(1, *(entry(n, prompt(6), 10) for n in range(4))))
        for step in range(10):
            engine.let(1)
            await bench.made(0, step + 1)
        await bench.ended(1)
        assert bench.lanes[0].wakeups in (10, 11)  # the end may come with the last step


async def test_a_cancelled_entry_ends_within_one_step(bench_for: BenchFor) -> None:
    """The router hears at once; the engine drops it at its next step, and the others go on untouched."""
    engine = GatedEngine()
    async with bench_for(engine) as bench:
        bench.crew.start(batch(1, entry(1, prompt(6), 50), entry(2, prompt(6, 50), 8)))
        engine.let(3)
        await bench.made(2, 3)
        bench.crew.cancel(1)
        engine.let(5)
        await bench.ended(1)
        cancelled = bench.stream.heard[1]
        assert cancelled.end is not None
        assert cancelled.end.cancelled
        assert len(cancelled.token_ids) == 3
        assert engine.steps_begun == 8, "only the other entry's steps were computed"
        assert bench.finish(2) is FinishReason.LENGTH


async def test_a_batch_cancelled_whole_ends_within_one_step(bench_for: BenchFor) -> None:
    """One more step at the most, and the lane is free."""
    engine = GatedEngine()
    async with bench_for(engine) as bench:
        bench.crew.start(batch(1, entry(1, prompt(6), 200), entry(2, prompt(6), 200)))
        engine.let(2)
        await engine.stands_before(3)
        for assignment in (1, 2):
            bench.crew.cancel(assignment)
        engine.let(1)
        await bench.ended(1)
        assert engine.steps_begun == 3
        bench.crew.cancel(1)  # has ended: nothing happens


async def test_a_busy_lane_refuses_and_goes_on(bench_for: BenchFor) -> None:
    """A batch for a lane that runs one is answered entry by entry; the running one notices nothing."""
    engine = GatedEngine()
    async with bench_for(engine) as bench:
        bench.crew.start(batch(1, entry(1, prompt(6), 5)))
        bench.crew.start(batch(2, entry(2, prompt(6)), entry(3, prompt(6))))
        await bench.ended(2)
        assert [bench.failure(n) for n in (2, 3)] == ["UNAVAILABLE"] * 2
        engine.let(5)
        await bench.ended(1)
        assert bench.finish(1) is FinishReason.LENGTH


@pytest.mark.parametrize(
    ("start", "code"),
    [
        (batch(2, entry(2, prompt(6)), model="other"), "UNKNOWN_MODEL"),
        (batch(2, entry(2, prompt(6)), lane=2), "UNAVAILABLE"),
        (batch(2, *(entry(n, prompt(6)) for n in range(2, 7))), "UNAVAILABLE"),
        (batch(2, entry(2, prompt(6)), entry(2, prompt(6))), "UNAVAILABLE"),
    ],
    ids=["unknown model", "no such lane", "too many entries", "an assignment twice"],
)
async def test_a_batch_against_the_contract_is_refused(bench_for: BenchFor, start: object, code: str) -> None:
    """Each entry fails with the reason, the batch ends, and the lane takes the next."""
    async with bench_for(fake()) as bench:
        bench.crew.start(start)  # type: ignore[arg-type]
        await bench.ended(2)
        assert bench.failure(2) == code
        bench.crew.start(batch(3, entry(9, prompt(6), 2)))
        await bench.ended(3)
        assert bench.finish(9) is FinishReason.LENGTH


@pytest.mark.parametrize(
    "bad",
    [entry(2, ()), entry(2, (50, 300)), entry(2, (50,), generated=(999,)), entry(2, prompt(CONTEXT))],
    ids=["empty prompt", "unknown token", "unknown generated token", "over the context"],
)
async def test_a_bad_entry_fails_alone(bench_for: BenchFor, bad: object) -> None:
    """It never reaches the engine, which would fail or falsify the whole batch."""
    async with bench_for(fake()) as bench:
        bench.crew.start(batch(1, entry(1, prompt(6), 3), bad, entry(3, prompt(6), 3)))  # type: ignore[arg-type]
        await bench.ended(1)
        assert bench.failure(2) == "INVALID_REQUEST"
        assert bench.heard(1) == bench.heard(3)
        assert bench.finish(1) is FinishReason.LENGTH


async def test_the_context_ends_an_entry(bench_for: BenchFor) -> None:
    """Prompt and output together never exceed it."""
    async with bench_for(fake()) as bench:
        bench.crew.start(batch(1, entry(1, prompt(CONTEXT - 4), 1000)))
        await bench.ended(1)
        assert len(bench.heard(1)[0]) == 4
        assert bench.finish(1) is FinishReason.LENGTH


@pytest.mark.parametrize(("byte", "made"), [(FAIL_AT_ONCE, 0), (FAIL_LATER, FAILING_STEP)])
async def test_an_engine_error_fails_its_entries_and_no_more(
    bench_for: BenchFor, byte: int, made: int
) -> None:
    """What was made before it stays, the other lane goes on, and this lane takes the next batch."""
    async with bench_for(fake()) as bench:
        bench.crew.start(batch(1, entry(1, (*prompt(5), byte)), entry(2, prompt(6), 2)))
        bench.crew.start(batch(2, entry(3, prompt(6), 50), lane=1))
        await bench.ended(1)
        assert bench.failure(1) == "ENGINE_FAILED"
        assert len(bench.heard(1)[0]) == made
        assert bench.failure(2) == ("ENGINE_FAILED" if made < 2 else "")
        bench.crew.start(batch(3, entry(4, prompt(6), 50)))
        await bench.ended(2)
        await bench.ended(3)
        assert bench.heard(3) == bench.heard(4)


async def test_an_entry_resumes_where_it_was(bench_for: BenchFor) -> None:
    """Prompt and tokens so far give the rest, tokens and text and end, with indices that go on; at every cut."""
    async with bench_for(fake()) as bench:
        number = 1
        for ids, stop in (
            (prompt(6), ()),
            ((*prompt(6), END_SOON), ()),
            (prompt(6), ("e ", "a")),
        ):
            bench.crew.start(batch(number, entry(number, ids, 40, stop=stop)))
            await bench.ended(number)
            made, text = bench.heard(number)
            finish = bench.finish(number)
            pieces = []
            for cut in range(1, len(made)):
                number += 1
                resumed = entry(number, ids, 40, stop=stop, generated=tuple(made[:cut]))
                bench.crew.start(batch(number, resumed))
                await bench.ended(number)
                rest, rest_text = bench.heard(number)
                assert bench.stream.heard[number].first_index == cut
                assert rest == made[cut:]
                assert bench.finish(number) is finish
                assert text.endswith(rest_text)
                pieces.append(rest_text)
            assert sorted(pieces, key=len, reverse=True) == pieces
            number += 1


@pytest.mark.parametrize(
    ("sent", "finish"),
    [
        (entry(1, prompt(6), 3, generated=(101, 102, 103)), FinishReason.LENGTH),
        (entry(1, prompt(6), 9, generated=(101, 102, 257)), FinishReason.END),
        (entry(1, prompt(6), 9, generated=(101, 102, 103), stop=("fg",)), FinishReason.STOP),
        (entry(1, prompt(CONTEXT - 2), 9, generated=(101, 102)), FinishReason.LENGTH),
    ],
    ids=["max_tokens", "end token", "stop string", "context"],
)
async def test_what_has_ended_already_costs_no_compute(
    bench_for: BenchFor, sent: object, finish: FinishReason
) -> None:
    """Where earlier attempts made all there is, the end is told at once, without token or text."""
    engine = GatedEngine()
    async with bench_for(engine) as bench:
        bench.crew.start(batch(1, sent))  # type: ignore[arg-type]
        await bench.ended(1)
        assert bench.finish(1) is finish
        assert bench.heard(1) == ([], "")
        assert engine.steps_begun == 0


async def test_a_stop_string_ends_its_entry(bench_for: BenchFor) -> None:
    """Its tokens are told up to the one that completes it; of its text only what stands before it."""
    async with bench_for(fake()) as bench:
        bench.crew.start(batch(1, entry(1, prompt(6), 60)))
        await bench.ended(1)
        made, text = bench.heard(1)
        stop = text[7:10]
        bench.crew.start(batch(2, entry(2, prompt(6), 60, stop=(stop,)), entry(3, prompt(6), 60)))
        await bench.ended(2)
        assert bench.finish(2) is FinishReason.STOP
        assert bench.heard(2)[1] == text[: text.index(stop)]
        told = bytes(bench.heard(2)[0]).decode()
        assert told == text[: text.index(stop) + len(stop)]
        assert bench.heard(3) == (made, text)


async def test_an_end_token_ends_its_entry_unless_ignored(bench_for: BenchFor) -> None:
    """END, with the token and without text; with ignore_end the entry goes on to its count."""
    ids = (*prompt(6), END_SOON)
    async with bench_for(fake()) as bench:
        bench.crew.start(batch(1, entry(1, ids, 200)))
        bench.crew.start(batch(2, entry(2, ids, 200), lane=1, sampling=Sampling(ignore_end=True)))
        await bench.ended(1)
        await bench.ended(2)
        made, text = bench.heard(1)
        assert bench.finish(1) is FinishReason.END
        assert made[-1] == 257
        assert bytes(made[:-1]).decode(errors="replace") == text
        assert len(bench.heard(2)[0]) == 200
        assert bench.finish(2) is FinishReason.LENGTH


async def test_one_token_prompts_beside_longer_ones_are_right_too(bench_for: BenchFor) -> None:
    """The engine cannot mix them; they come out as alone."""
    async with bench_for(fake()) as bench:
        bench.crew.start(batch(1, entry(1, (50,), 5), entry(2, prompt(6), 5), entry(3, (60,), 5)))
        bench.crew.start(batch(2, entry(4, (60,), 5), lane=1))
        await bench.ended(1)
        await bench.ended(2)
        assert bench.heard(3) == bench.heard(4)
        assert all(bench.finish(n) is FinishReason.LENGTH for n in (1, 2, 3))


async def test_abandoned_batches_end_without_a_word(bench_for: BenchFor) -> None:
    """After a lost router the engine is free within a step, and nothing more is said of the batch."""
    engine = GatedEngine()
    async with bench_for(engine) as bench:
        bench.crew.start(batch(1, entry(1, prompt(6), 200)))
        engine.let(2)
        await bench.made(1, 2)
        bench.crew.abandon()
        engine.let(1)
        await bench.crew.idle()
        assert bench.stream.heard[1].end is None
        bench.crew.start(batch(2, entry(2, prompt(6), 1)))
        engine.let(1)
        await bench.ended(2)
        assert 1 not in bench.stream.ended


async def test_a_lane_whose_engine_is_not_free_yet_takes_the_next_batch(bench_for: BenchFor) -> None:
    """A lost router's batch may sit in a long prefill: the next router's begins when that is over, not later."""
    engine = GatedEngine()
    async with bench_for(engine) as bench:
        bench.crew.start(batch(1, entry(1, prompt(6), 200)))
        bench.crew.abandon()
        await bench.crew.idle()
        bench.crew.start(batch(1, entry(1, prompt(6), 3), entry(2, prompt(6), 3)))
        bench.crew.start(batch(2, entry(3, prompt(6), 3)))
        await bench.ended(2)
        assert bench.failure(3) == "UNAVAILABLE", "its lane is taken all the same"
        bench.crew.cancel(2)
        await bench.stream.until(lambda: 2 in bench.stream.heard)
        assert engine.steps_begun == 0
        engine.let(1)  # the abandoned one's last
        engine.let(3)
        await bench.ended(1)
        assert len(bench.heard(1)[0]) == 3
        assert bench.heard(2) == ([], "")
        assert bench.finish(1) is FinishReason.LENGTH


async def test_a_lane_is_said_to_be_free_when_its_abandoned_batch_has_ended(bench_for: BenchFor) -> None:
    """A prefill that was under way goes on: until it is over the lane is among those to tell the next router of."""
    engine = GatedEngine()
    async with bench_for(engine) as bench:
        bench.crew.start(batch(1, entry(1, prompt(6), 200), lane=1))
        bench.crew.cancel(1)
        assert list(bench.crew.abandoned_lanes) == []
        bench.crew.abandon()
        assert list(bench.crew.abandoned_lanes) == [1]
        assert bench.stream.freed == []
        engine.let(1)
        await bench.stream.until(lambda: bench.stream.freed == [1])
        assert list(bench.crew.abandoned_lanes) == []
        assert bench.stream.ended == {}, "the next router knows nothing of the batch"


async def test_a_batch_that_waits_for_its_lane_can_be_abandoned_too(bench_for: BenchFor) -> None:
    """Routers may be lost one after another; of all their batches only the last one's is computed."""
    engine = GatedEngine()
    async with bench_for(engine) as bench:
        for number in (1, 2, 3):
            bench.crew.start(batch(number, entry(number, prompt(6), 200)))
            bench.crew.abandon()
        bench.crew.start(batch(4, entry(4, prompt(6), 2)))
        engine.let(3)
        await bench.ended(4)
        assert engine.steps_begun <= 3, "one at most of the first, which had the engine, and the last one's"
        assert set(bench.stream.heard) == {4}
        assert set(bench.stream.ended) == {4}


async def test_a_token_without_text_fails_its_entry_alone(
    bench_for: BenchFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that makes a token that the tokeniser does not know harms nobody else."""
    strange = FakeEngine(FakeTiming(), vocab_size=VOCAB_SIZE, end_id=257)
    original = strange.run

    def run(prompts: Sequence[Sequence[int]], *, on_token: OnToken, **options: Any) -> None:
        def on_strange(entry: int, token_id: int, step: int, last: bool) -> bool:
            return on_token(entry, 9999 if (entry, step) == (0, 2) else token_id, step, last)

        original(prompts, on_token=on_strange, **options)

    monkeypatch.setattr(strange, "run", run)
    async with bench_for(strange) as bench:
        bench.crew.start(batch(1, entry(1, prompt(6), 9), entry(2, prompt(6), 9)))
        await bench.ended(1)
        assert bench.failure(1) == "ENGINE_FAILED"
        assert len(bench.heard(1)[0]) == 2
        assert len(bench.heard(2)[0]) == 9
