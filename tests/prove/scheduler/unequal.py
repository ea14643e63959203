"""Two real workers, one of them three times as slow, and one queue: how the work is split, and who waits for whom."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from headrace.bench.driver import ToSend
from headrace.client.client import HeadraceClient
from headrace.contract.errors import HeadraceError
from headrace.contract.values import Priority
from headrace.models.store import StoredModel
from headrace.runtime import trace_names as names
from tests.integration.processes import READY_S
from tests.otlp_receiver import OtlpReceiver
from tests.prove.answers import real_model
from tests.prove.scheduler.heard import Heard, ask, ask_all, makespan_s, saturating
from tests.prove.scheduler.load import MODEL, Shape, requests
from tests.prove.scheduler.slowed import UnequalProcesses

FAST, SLOW = "worker-1", "worker-2"
SLOWER = 3
WORK = Shape(prompts="16-512", outputs="16-64")
COUNT = 40
SAMPLED = {FAST: 4, SLOW: 8}
"""Every so many of the work, by length: what a worker's speed is measured with."""
PROMPT_WORTH = 0.05
"""Of a prompt token, in output tokens. It only levels out what differs between the work and its samples."""
REALTIME = Shape(prompts="64", outputs="12")
ONE_BY_ONE, PAIRS, UNDER_LOAD = 8, 4, 8
GAP_S = 0.3
SPANS_S = 20.0


async def unequal(folder: Path) -> Mapping[str, float]:
    """Each worker alone on a sample of the work, then both on all of it; then realtime requests, into the idle mesh one
    by one and two at once, and under batch work. A realtime request waited for the slow worker where it ran there,
    though the fast one would have ended it sooner even after the other realtime request of its pair.
    """
    model = await asyncio.to_thread(real_model)
    load = requests(model, WORK, count=COUNT, seed=31)
    async with OtlpReceiver() as collector:
        cores = sorted(os.sched_getaffinity(0))
        mesh = UnequalProcesses(
            folder,
            models=model.path.parent,
            environment=collector.environment(),
            names=("router", "gateway", FAST, SLOW),
            cores={FAST: cores[0], SLOW: cores[-1]},
            shares={SLOW: 1 / SLOWER},
        )
        async with mesh, HeadraceClient(mesh.address) as client:
            await mesh.stop(SLOW)
            fast = await _speed(client, load, FAST)
            probes = requests(model, REALTIME, count=ONE_BY_ONE, seed=32, priority=Priority.REALTIME)
            fast_s = max(one.total_s for one in await _one_by_one(client, probes[:4]))
            both = 2 * await _lanes_once(client, bool)
            await mesh.start(SLOW)
            await _lanes_once(client, lambda lanes: lanes == both)
            await mesh.stop(FAST)
            slow = await _speed(client, load, SLOW)
            await mesh.start(FAST)
            await _lanes_once(client, lambda lanes: lanes == both)
            took_s = makespan_s(await ask_all(client, load, MODEL))
            asked = await _realtime(client, model, probes)
        ran_on = await _workers(collector, [one for ones in asked.values() for one in ones])
    ideal_s = sum(map(_work, load)) / (fast + slow)
    print(f"  all the work: {took_s:.1f} s, ideally {ideal_s:.1f} s", flush=True)
    return {
        "to_ideal": took_s / ideal_s,
        "slower": fast / slow,
        "waited_for_slow": float(sum(_waited(ones, ran_on, name, fast_s) for name, ones in asked.items())),
        **{
            f"on_slow_{name.replace(' ', '_')}": float(sum(ran_on[one.request_id] == SLOW for one in ones))
            for name, ones in asked.items()
        },
        "realtime_on_fast_s": fast_s,
    }


def _work(request: ToSend) -> float:
    return request.output_tokens + PROMPT_WORTH * request.prompt_tokens


async def _speed(client: HeadraceClient, load: Sequence[ToSend], worker: str) -> float:
    """Work a second of the one worker that is there."""
    by_length = sorted(load, key=_work)
    sample = by_length[SAMPLED[worker] // 2 :: SAMPLED[worker]]
    await ask(client, by_length[0], MODEL)  # warm
    speed = sum(map(_work, sample)) / makespan_s(await ask_all(client, sample, MODEL))
    print(f"  {worker} alone: {speed:.1f} a second", flush=True)
    return speed


async def _realtime(
    client: HeadraceClient, model: StoredModel, probes: Sequence[ToSend]
) -> dict[str, list[Heard]]:
    """By situation."""
    work = requests(model, WORK, count=COUNT, seed=33, priority=Priority.BATCH)
    asked: dict[str, list[Heard]] = {"one by one": await _one_by_one(client, probes), "pairs": []}
    for at in range(PAIRS):
        asked["pairs"] += await ask_all(client, probes[2 * at : 2 * at + 2], MODEL)
        await asyncio.sleep(GAP_S)
    async with saturating(client, work, MODEL, 16):
        asked["under load"] = await _one_by_one(client, probes[:UNDER_LOAD])
    return asked


async def _one_by_one(client: HeadraceClient, probes: Sequence[ToSend]) -> list[Heard]:
    heard = []
    for probe in probes:
        heard.append(await ask(client, probe, MODEL))
        await asyncio.sleep(GAP_S)
    return heard


def _waited(ones: Sequence[Heard], ran_on: Mapping[str, str], name: str, fast_s: float) -> int:
    """How many waited for the slow worker though the fast one, one after another, would have ended them sooner."""
    at_once = 2 if name == "pairs" else 1
    return sum(ran_on[one.request_id] == SLOW and one.total_s > at_once * fast_s for one in ones)


async def _workers(collector: OtlpReceiver, heard: Sequence[Heard]) -> dict[str, str]:
    """The worker of each request, by its id, from the traces."""
    wanted = {one.request_id for one in heard}

    def found() -> dict[str, str]:
        return {
            span.attributes[names.REQUEST_ID]: span.attributes[names.WORKER]
            for span in collector.named(names.SPAN_SCHEDULE)
            if span.attributes[names.REQUEST_ID] in wanted
        }

    await collector.wait_for(lambda spans: len(found()) == len(wanted), SPANS_S)
    ran_on = found()
    assert set(ran_on.values()) <= {FAST, SLOW}, ran_on
    return ran_on


async def _lanes_once(client: HeadraceClient, enough: Callable[[int], bool]) -> int:
    """The lanes of all workers together, as soon as there are enough."""
    until_s = time.monotonic() + READY_S
    while time.monotonic() < until_s:
        try:
            lanes = sum(one.lanes for one in await client.models())
        except HeadraceError:
            lanes = 0
        if enough(lanes):
            return lanes
        await asyncio.sleep(0.1)  # nothing tells of a worker that joins
    raise AssertionError("the workers did not join")
