"""A crew of two lanes without a router, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from headrace.contract.values import FinishReason
from headrace.contract.work import Device, WorkerJoin
from headrace.models.fake import FakeTiming
from headrace.models.store import ModelStore
from headrace.runtime.metrics import Metrics
from headrace.worker.crew import Crew
from headrace.worker.engine import Engine
from headrace.worker.fake_engine import FakeEngine
from headrace.worker.gate import Gate
from headrace.worker.lane import Lane
from headrace.worker.metrics import WorkerMetrics
from headrace.worker.outbox import Outbox
from headrace.worker.translator import Translator
from tests.worker.fake_router import Stream
from tests.worker.gated_engine import VOCAB_SIZE, GatedEngine, serving

JOIN = WorkerJoin(
    worker_id="w", name="w", version="0", device=Device(kind="cpu"), lanes=2, max_batch=4, models=()
)


@dataclass
class Bench:
    """A crew of two lanes, and what a router would hear of it."""

    crew: Crew
    gate: Gate
    lanes: list[Lane]
    stream: Stream

    def heard(self, assignment: int) -> tuple[list[int], str]:
        heard = self.stream.heard[assignment]
        return heard.token_ids, heard.text

    def finish(self, assignment: int) -> FinishReason | None:
        end = self.stream.heard[assignment].end
        assert end is not None
        return end.finish_reason

    def failure(self, assignment: int) -> str:
        end = self.stream.heard[assignment].end
        assert end is not None
        return end.failure.code if end.failure else ""

    async def ended(self, number: int) -> None:
        await self.stream.until(lambda: number in self.stream.ended)

    async def made(self, assignment: int, count: int) -> None:
        await self.stream.until(
            lambda: assignment in self.stream.heard and len(self.stream.heard[assignment].token_ids) >= count
        )


BenchFor = Callable[..., AbstractAsyncContextManager[Bench]]


@asynccontextmanager
async def open_bench(
    store: ModelStore,
    engine: Engine,
    *,
    slots: int = 2,
    paused_step_s: float = 3600,
    translator: Translator | None = None,
    metrics: Metrics | None = None,
) -> AsyncIterator[Bench]:
    """`paused_step_s`: by default a paused batch makes no step. With a `translator` the model translates."""
    outbox, stream = Outbox(), Stream(JOIN)

    async def forward() -> None:
        while (message := await outbox.take(60)) is not None:
            await stream.take(message)

    forwarding = asyncio.create_task(forward())
    async with AsyncExitStack() as stack:
        lanes = [await stack.enter_async_context(Lane(index)) for index in range(2)]
        gate = Gate(slots, paused_step_s=paused_step_s)
        crew = Crew(
            lanes,
            {"fake": replace(serving(engine, store), translator=translator)},
            outbox,
            gate,
            max_batch=4,
            name="w",
            tracer=None,
            metrics=WorkerMetrics(metrics or Metrics()),
        )
        try:
            yield Bench(crew, gate, lanes, stream)
        finally:
            crew.abandon()
            if isinstance(engine, GatedEngine):
                engine.let(10_000)
            await crew.idle()
            outbox.close()
            await forwarding


def fake() -> FakeEngine:
    return FakeEngine(FakeTiming(), vocab_size=VOCAB_SIZE, end_id=257)
