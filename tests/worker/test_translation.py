"""A batch to translate on a lane, without an engine: what is counted of it, and how it ends early."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from headrace.contract.values import FinishReason, Sampling
from headrace.runtime import metric_names as names
from headrace.runtime.metrics import Metrics
from headrace.worker.engine import OnToken
from tests.worker.crew_bench import BenchFor, fake
from tests.worker.gated_engine import GatedEngine
from tests.worker.tiny_model import batch, entry, prompt

BEAMS = Sampling(beam_size=4)
LETTER = 65


class GatedTranslator:
    """Makes letters, a step or a search each time that it is let. Its steps are those of a `GatedEngine`."""

    def __init__(self, engine: GatedEngine) -> None:
        self._engine = engine
        self.searched: list[list[int]] = []
        """The lengths of the sources of each search."""
        self.began = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def translate(
        self,
        sources: Sequence[Sequence[int]],
        prefixes: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        max_new: int,
        on_token: OnToken,
        static_tokens: int = 0,
    ) -> None:
        # Its lockstep is that of the prefixes, whatever the sources.
        begun = [prompt(2 + len(prefix)) for prefix in prefixes]
        self._engine.run(begun, sampling=sampling, max_new=max_new, on_token=on_token)

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        max_new: int,
        on_token: OnToken,
        static_tokens: int = 0,
    ) -> None:
        raise AssertionError("a model that translates is not asked to go on with a prompt")

    def search(
        self,
        sources: Sequence[Sequence[int]],
        prefixes: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        max_new: int,
    ) -> list[list[int]]:
        self.searched.append([len(source) for source in sources])
        self.began.release()
        assert self.go.acquire(timeout=30), "the test forgot a search"
        return [[LETTER] * max_new for _ in sources]

    def close(self) -> None:
        pass


async def test_a_longer_source_is_no_padding(bench_for: BenchFor) -> None:
    """All sources are read at once; what one makes longer than another leaves a place empty, and that is counted."""
    engine, metrics = GatedEngine(), Metrics()
    async with bench_for(engine, translator=GatedTranslator(engine), metrics=metrics) as bench:
        bench.crew.start(batch(1, entry(1, prompt(40), 2), entry(2, prompt(3), 6)))
        engine.let(6)
        await bench.ended(1)
        assert bench.finish(2) is FinishReason.LENGTH
        assert metrics.values(names.WORKER_STEPS)[("fake",)] == 6
        used = {labels[1]: count for labels, count in metrics.values(names.ENTRY_STEPS).items() if count}
        assert used == {"output": 8, "ended": 4}
        assert metrics.values(names.WORKER_TOKENS)[("fake",)] == 8


async def test_a_cancelled_translation_ends_within_one_step(bench_for: BenchFor) -> None:
    """As a generation does, and the other goes on."""
    engine = GatedEngine()
    async with bench_for(engine, translator=GatedTranslator(engine)) as bench:
        bench.crew.start(batch(1, entry(1, prompt(9), 200), entry(2, prompt(3), 5)))
        engine.let(2)
        await bench.made(1, 2)
        bench.crew.cancel(1)
        engine.let(3)
        await bench.ended(1)
        assert engine.steps_begun == 5
        assert bench.finish(2) is FinishReason.LENGTH


async def test_a_search_that_nobody_wants_is_not_begun(bench_for: BenchFor) -> None:
    """Cancelled while another one runs; one that runs is not broken off, and what it found is dropped."""
    translator = GatedTranslator(GatedEngine())
    async with bench_for(fake(), translator=translator) as bench:
        entries = [entry(1, prompt(9), 4), entry(2, prompt(5), 7), entry(3, prompt(3), 2)]
        bench.crew.start(batch(1, *entries, sampling=BEAMS))
        translator.began.acquire()
        bench.crew.cancel(1)
        bench.crew.cancel(2)
        translator.go.release(2)
        await bench.ended(1)
        assert translator.searched == [[9], [3]]
        assert bench.heard(1)[0] == []
        assert bench.heard(3)[0] == [LETTER] * 2
