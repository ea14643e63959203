"""A worker as a process of its own: how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from headrace.contract.values import FinishReason, Sampling
from headrace.contract.work import EntryEnd
from headrace.models.store import ModelStore
from tests.worker.fake_router import FakeRouter
from tests.worker.tiny_model import batch, entry, install_tiny_model, prompt

pytestmark = pytest.mark.integration

MAIN = """
from headrace.runtime.settings import load_settings
from headrace.runtime.shutdown import Shutdown, run_process
from headrace.worker.app import run

async def main():
    async with Shutdown() as shutdown:
        await run(load_settings(), shutdown)

raise SystemExit(run_process(main()))
"""
LONG = 30_000
ENDLESS = Sampling(ignore_end=True)


@asynccontextmanager
async def process(router: str, store: ModelStore, **environment: str) -> AsyncIterator[Process]:
    """A worker of two lanes; killed at the end where it still runs."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        MAIN,
        stderr=PIPE,
        env={
            **os.environ,
            "HEADRACE_MODELS": str(store.root),
            "HEADRACE_WORKER_ROUTER": router,
            "HEADRACE_WORKER_DEVICE": "cpu",
            "HEADRACE_WORKER_LANES": "2",
            **environment,
        },
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def end_of(worker: Process) -> tuple[int | None, str]:
    async with asyncio.timeout(60):
        _, told = await worker.communicate()
    return worker.returncode, told.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_in_the_middle_of_batches_ends_it_in_order(
    router: FakeRouter, store: ModelStore, number: signal.Signals
) -> None:
    """Both lanes are inside the real engine: the process gives back what they run, unloads the model, and ends with 0,
    not by an abort.
    """
    install_tiny_model(store, context_length=2 * LONG)
    async with process(router.address, store, HEADRACE_WORKER_DRAIN_GRACE_S="0.2") as worker:
        stream = await router.stream()
        for lane in (0, 1):
            stream.start(batch(lane, entry(lane, prompt(6), LONG), lane=lane, model="tiny", sampling=ENDLESS))
        await stream.until(lambda: {0, 1} <= set(stream.heard))
        worker.send_signal(number)
        code, told = await end_of(worker)
    assert (code, "terminate called" in told, "Traceback" in told) == (0, False, False), told
    assert stream.draining
    assert stream.closed
    assert [stream.heard[lane].end for lane in (0, 1)] == [EntryEnd(cancelled=True)] * 2


@pytest.mark.parametrize("cut", [True, False], ids=["grace over", "router resumes"])
async def test_a_process_with_paused_batches_ends_in_order(
    router: FakeRouter, store: ModelStore, cut: bool
) -> None:
    """The engine would abort a process that leaves one behind: they are given back when the grace is over, or end
    within it where the router has them go on.
    """
    install_tiny_model(store, context_length=2 * LONG)
    tokens, grace = (LONG, "0.3") if cut else (300, "60")
    async with process(router.address, store, HEADRACE_WORKER_DRAIN_GRACE_S=grace) as worker:
        stream = await router.stream()
        assert (stream.join.lanes, stream.join.slots) == (8, 2)
        for lane in range(6):
            stream.send(
                start=(
                    batch(lane, entry(lane, prompt(6), tokens), lane=lane, model="tiny", sampling=ENDLESS),
                ),
                pause=() if lane >= 4 else (lane,),
            )
        await stream.until(lambda: {4, 5} <= set(stream.heard))
        for lane in (4, 5):
            stream.send(pause=(lane,))
        worker.send_signal(signal.SIGTERM)
        await stream.until(lambda: stream.draining)
        if not cut:
            stream.send(resume=tuple(range(6)))
        code, told = await end_of(worker)
    assert (code, "terminate called" in told, "Traceback" in told) == (0, False, False), told
    assert stream.closed
    ends = [stream.heard[lane].end for lane in range(6)]
    assert ends == [EntryEnd(cancelled=True) if cut else EntryEnd(finish_reason=FinishReason.LENGTH)] * 6


async def test_a_process_that_has_lost_its_router_leaves_no_paused_batch(
    router: FakeRouter, store: ModelStore
) -> None:
    """Nobody would resume them: it joins again with all lanes free, and ends with 0."""
    install_tiny_model(store, context_length=2 * LONG)
    async with process(router.address, store) as worker:
        stream = await router.stream()
        for lane in range(4):
            stream.start(batch(lane, entry(lane, prompt(6), LONG), lane=lane, model="tiny", sampling=ENDLESS))
        await stream.until(lambda: len(stream.heard) >= 2)
        stream.send(pause=(0, 1, 2, 3))
        stream.break_off()
        again = await router.stream(1)
        for lane in range(8):
            again.start(batch(lane, entry(lane, prompt(6), 3), lane=lane, model="tiny"))
        await again.until(lambda: len(again.ended) == 8)
        worker.send_signal(signal.SIGTERM)
        code, told = await end_of(worker)
    assert (code, "terminate called" in told, "Traceback" in told) == (0, False, False), told


async def test_a_second_signal_ends_it_at_once(router: FakeRouter, store: ModelStore) -> None:
    """Whoever insists does not wait for the grace."""
    install_tiny_model(store, context_length=2 * LONG)
    async with process(router.address, store, HEADRACE_WORKER_DRAIN_GRACE_S="600") as worker:
        stream = await router.stream()
        stream.start(batch(1, entry(1, prompt(6), LONG), model="tiny", sampling=ENDLESS))
        await stream.until(lambda: 1 in stream.heard)
        worker.send_signal(signal.SIGTERM)
        await stream.until(lambda: stream.draining)
        worker.send_signal(signal.SIGTERM)
        code, told = await end_of(worker)
    assert code == 128 + signal.SIGTERM
    assert "terminate called" not in told


async def test_a_wrong_start_is_one_line(store: ModelStore) -> None:
    """No model: the reason and what to do on stderr, without a traceback, and exit code 1."""
    async with process("127.0.0.1:9", store) as worker:
        code, told = await end_of(worker)
    assert code == 1
    assert "headrace model pull" in told
    assert "Traceback" not in told
