"""A worker that knows several routers: which it joins, and how soon."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from headrace.contract.log_level import LogLevel
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from headrace.worker import session
from headrace.worker.fake_engine import FakeEngine
from tests.worker.conftest import WorkerFor
from tests.worker.fake_router import FakeRouter, Stream, serve_router
from tests.worker.tiny_model import batch, entry, prompt

pytestmark = pytest.mark.integration

NO_BACK_OFF = {"worker.rejoin_wait_s": 600, "worker.rejoin_max_wait_s": 600}
"""A worker that waits before it joins another router fails its test."""
SLOW = FakeTiming(step_s=0.01)


@pytest.fixture
async def other() -> AsyncIterator[FakeRouter]:
    async with serve_router(router_id="other") as serving:
        yield serving


async def works(stream: Stream, number: int) -> None:
    """A batch comes back on it."""
    assert (await stream.run(batch(number, entry(number, prompt(6), 3))))[number].end is not None


async def test_a_lost_routers_worker_joins_the_next_at_once(
    router: FakeRouter, other: FakeRouter, store: ModelStore, worker_for: WorkerFor
) -> None:
    """Of those that are configured, and back to the first when that one is lost; what ran is not spoken of again."""
    install_fake_model(store, timing=SLOW)
    async with worker_for(f"{router.address}, {other.address}", **NO_BACK_OFF):
        first = await router.stream()
        first.start(batch(1, entry(1, prompt(6), 3000)))
        await first.until(lambda: 1 in first.heard)
        await asyncio.sleep(1.1)  # a stream that works: the time is what the claim is about
        first.break_off()
        second = await other.stream()
        assert second.join.worker_id == first.join.worker_id
        await works(second, 1)
        await asyncio.sleep(1.1)
        second.break_off()
        await works(await router.stream(1), 2)


async def test_peers_are_joined_though_nobody_configured_them(
    router: FakeRouter, other: FakeRouter, store: ModelStore, worker_for: WorkerFor
) -> None:
    """As told by the router that is lost, which is gone for good."""
    install_fake_model(store)
    async with serve_router() as first, worker_for(first.address, **NO_BACK_OFF):
        stream = await first.stream()
        stream.send(peers=(first.peer, other.peer))
        await works(stream, 1)
        stream.break_off()
        await works(await other.stream(), 2)


async def test_a_dead_router_is_passed_over_and_one_that_returns_is_joined(
    store: ModelStore, worker_for: WorkerFor
) -> None:
    """A worker starts with whichever lives; when none does, it goes on trying all."""
    install_fake_model(store)
    async with serve_router() as first:
        port = int(first.address.rpartition(":")[2])
    async with serve_router() as second:
        working = worker_for(f"127.0.0.1:{port},{second.address}")
        await working.__aenter__()
        await works(await second.stream(), 1)
    async with serve_router(port) as back:
        await works(await back.stream(timeout_s=5), 2)
        await working.__aexit__(None, None, None)


@pytest.mark.parametrize("drains", [True, False])
async def test_the_next_router_is_told_which_lanes_still_compute(
    router: FakeRouter,
    other: FakeRouter,
    store: ModelStore,
    worker_for: WorkerFor,
    monkeypatch: pytest.MonkeyPatch,
    drains: bool,
) -> None:
    """A cancelled request's prefill goes on though its router has drained, or is lost: its lane is said to be busy in
    the join, and to be free once the prefill is over; the other lane works meanwhile.
    """
    began, prefilled, run = threading.Event(), threading.Event(), FakeEngine.run

    def slow_run(engine: FakeEngine, prompts: Sequence[Sequence[int]], **how: Any) -> None:
        if len(prompts[0]) >= 100:
            began.set()
            assert prefilled.wait(30)
        run(engine, prompts, **how)

    monkeypatch.setattr(FakeEngine, "run", slow_run)
    install_fake_model(store)
    async with worker_for(f"{router.address},{other.address}", **{"worker.lanes": 2}):
        try:
            first = await router.stream()
            first.start(batch(1, entry(1, prompt(100), 5), lane=1))
            assert await asyncio.to_thread(began.wait, 30)
            first.send(cancel=(1,), draining=drains)
            await first.until(lambda: 1 in first.heard)
            first.break_off()
            second = await other.stream()
            assert second.join.busy_lanes == (1,)
            await works(second, 1)
            assert second.freed == []
        finally:
            prefilled.set()
        await second.until(lambda: second.freed == [1])
        assert set(second.ended) == {1}
        second.break_off()
        assert (await router.stream(1)).join.busy_lanes == ()


async def test_a_router_that_drains_is_left_for_another(
    router: FakeRouter, other: FakeRouter, store: ModelStore, worker_for: WorkerFor
) -> None:
    """When its batches have ended; not for the same one, which still answers. Nothing of it is worth a warning."""
    install_fake_model(store, timing=SLOW)
    with structlog.testing.capture_logs() as logs:
        async with worker_for(f"{router.address},{other.address}", **NO_BACK_OFF):
            first = await router.stream()
            first.start(batch(1, entry(1, prompt(6), 30)))
            await first.until(lambda: 1 in first.heard)
            first.send(draining=True)
            await works(await other.stream(), 2)
            assert first.heard[1].end is not None
            assert len(router.streams) == 1
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == []


async def test_a_lone_router_that_drains_and_returns_is_no_warning(
    store: ModelStore, worker_for: WorkerFor
) -> None:
    """It is gone for a while, and is joined when it is back."""
    install_fake_model(store)
    with structlog.testing.capture_logs() as logs:
        async with serve_router() as first:
            port = int(first.address.rpartition(":")[2])
            working = worker_for(first.address)
            await working.__aenter__()
            stream = await first.stream()
            stream.send(draining=True)
            await stream.until(lambda: stream.closed)
        await asyncio.sleep(0.5)  # time for several tries
        async with serve_router(port) as second:
            await works(await second.stream(), 1)
            await working.__aexit__(None, None, None)
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == []


async def test_a_worker_logs_as_much_as_its_router_is_asked_for(
    router: FakeRouter, store: ModelStore, worker_for: WorkerFor
) -> None:
    """From the message on, and as its settings say when it is told so."""
    install_fake_model(store, timing=SLOW)
    ours = logging.getLogger("headrace")
    before = ours.level
    try:
        async with worker_for(router.address):
            stream = await router.stream()
            for level, least in ((LogLevel.ERROR, logging.ERROR), (LogLevel.AS_SET, logging.INFO)):
                stream.send(log_level=level)
                stream.start(batch(least, entry(least, prompt(6), 1)))  # messages are heard in order
                await stream.until(lambda least=least: least in stream.heard)  # type: ignore[misc]
                assert ours.level == least
    finally:
        ours.setLevel(before)


async def test_a_worker_that_is_to_leave_drains_and_ends(
    router: FakeRouter, store: ModelStore, worker_for: WorkerFor
) -> None:
    """As after a signal: it says so, ends what runs, and joins nobody."""
    install_fake_model(store, timing=SLOW)
    async with worker_for(router.address) as shutdown:
        stream = await router.stream()
        stream.start(batch(1, entry(1, prompt(6), 40)))
        await stream.until(lambda: 1 in stream.heard)
        stream.send(leave=True)
        await stream.until(lambda: stream.closed)
        assert shutdown.draining
        assert stream.draining
    assert len(stream.heard[1].token_ids) == 40
    assert len(router.streams) == 1


async def test_a_router_that_does_not_answer_a_join_is_passed_over(
    router: FakeRouter,
    other: FakeRouter,
    store: ModelStore,
    worker_for: WorkerFor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its connection is sound, and nothing comes."""
    monkeypatch.setattr(session, "WELCOME_S", 0.2)
    install_fake_model(store)
    router.mute = True
    async with worker_for(f"{router.address},{other.address}", **NO_BACK_OFF):
        await works(await other.stream(), 1)


ROUTER = """
import asyncio
from tests.worker.fake_router import serve_router

async def main():
    async with serve_router() as router:
        print(router.address, flush=True)
        await router.stream()
        print("joined", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@asynccontextmanager
async def router_process() -> AsyncIterator[tuple[Process, str]]:
    """A router that is a process of its own, and its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ROUTER, stdout=PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert process.stdout is not None
    try:
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


async def test_a_router_that_hangs_is_left_within_the_keepalive_times(
    other: FakeRouter, store: ModelStore, worker_for: WorkerFor
) -> None:
    """SIGSTOP: its connection stays open, and its pings go unanswered; by default another is joined after about 4 s."""
    install_fake_model(store)
    async with (
        router_process() as (process, address),
        worker_for(f"{address},{other.address}", **NO_BACK_OFF),
    ):
        assert process.stdout is not None
        assert await process.stdout.readline() == b"joined\n"
        began_s = time.monotonic()
        process.send_signal(signal.SIGSTOP)
        await works(await other.stream(), 1)
        assert 1.0 < time.monotonic() - began_s < 8.0


async def test_a_router_that_hangs_already_is_passed_over(
    other: FakeRouter, store: ModelStore, worker_for: WorkerFor
) -> None:
    """It takes the connection, as its kernel does that, and never finishes it: gRPC gives up after a second."""
    install_fake_model(store)
    async with router_process() as (process, address):
        process.send_signal(signal.SIGSTOP)
        began_s = time.monotonic()
        async with worker_for(f"{address},{other.address}", **NO_BACK_OFF):
            await works(await other.stream(), 1)
        assert time.monotonic() - began_s < 5.0
