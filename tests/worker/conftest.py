"""What the worker's tests share: a router, a model store, and workers between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace.models.store import ModelStore
from headrace.runtime.settings import load_settings
from headrace.runtime.shutdown import Shutdown
from headrace.worker.app import run
from headrace.worker.engine import Engine
from tests.worker.crew_bench import Bench, BenchFor, open_bench
from tests.worker.fake_router import FakeRouter, serve_router

WorkerFor = Callable[..., AbstractAsyncContextManager[Shutdown]]


@pytest.fixture
async def router() -> AsyncIterator[FakeRouter]:
    """A router that listens."""
    async with serve_router() as serving:
        yield serving


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """An empty model store."""
    root = tmp_path / "models"
    root.mkdir()
    return ModelStore(root)


@pytest.fixture
def worker_for(store: ModelStore) -> WorkerFor:
    """`async with worker_for(address, **{"worker.lanes": 1}) as shutdown`: a worker, which has left at the end."""

    @asynccontextmanager
    async def working(address: str, **overrides: object) -> AsyncIterator[Shutdown]:
        settings = load_settings(
            {
                "worker.router": address,
                "worker.device": "cpu",
                "worker.lanes": 1,
                "worker.rejoin_wait_s": 0.05,
                "worker.rejoin_max_wait_s": 0.2,
                "models": str(store.root),
                **overrides,
            },
            environ={},
        )
        async with Shutdown(signals=()) as shutdown, asyncio.TaskGroup() as group:
            group.create_task(run(settings, shutdown), name="worker")
            try:
                yield shutdown
            finally:
                shutdown.request("the test is over")

    return working


@pytest.fixture
def bench_for(store: ModelStore) -> BenchFor:
    """`async with bench_for(engine, slots=1) as bench`: two lanes that nobody else gives work."""

    def opened(engine: Engine, **how: Any) -> AbstractAsyncContextManager[Bench]:
        return open_bench(store, engine, **how)

    return opened
