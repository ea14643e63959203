"""Realtime requests into a machine that is full of batch work."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from headrace.bench.driver import ToSend
from headrace.client.client import HeadraceClient
from headrace.contract.values import Priority
from tests.integration.processes import Processes
from tests.prove.answers import real_model
from tests.prove.scheduler.heard import ask, ask_all, saturating
from tests.prove.scheduler.load import MIXED, MODEL, Shape, requests

PROBES = 30
PROBE = Shape(prompts="64", outputs="8")
LONGEST = Shape(prompts="512", outputs="1")
BATCH_CLIENTS = 32
GAP_S = (0.1, 0.7)
"""Between two probes: they meet the running batches at every point of theirs."""
LIMIT_S = 75.0
"""For the probes under load: where each takes seconds, fewer say enough."""


async def realtime(folder: Path) -> Mapping[str, float]:
    """The slowest first token of the probes, on the idle machine and on the full one.

    A prefill cannot be broken off: one is under way in the worst case, the longest that the load has. It is measured
    with one on each core, as under load.
    """
    model = await asyncio.to_thread(real_model)
    probes = requests(model, PROBE, count=PROBES, seed=21, priority=Priority.REALTIME)
    longest = requests(model, LONGEST, count=4, seed=22)
    work = requests(model, MIXED, count=128, seed=23, priority=Priority.BATCH)
    async with Processes(folder, models=model.path.parent) as mesh, HeadraceClient(mesh.address) as client:
        await ask_all(client, probes[:4], MODEL)  # warm
        idle = await _probe(client, probes)
        prefill_s = max(
            [one.first_token_s for at in (0, 2) for one in await ask_all(client, longest[at : at + 2], MODEL)]
        )
        async with saturating(client, work, MODEL, BATCH_CLIENTS):
            busy = await _probe(client, probes)
    limit_s = 2 * max(idle) + prefill_s
    return {
        "to_limit": max(busy) / limit_s,
        "probes": float(len(busy)),
        "idle_p50_ms": 1e3 * median(idle),
        "idle_max_ms": 1e3 * max(idle),
        "longest_prefill_ms": 1e3 * prefill_s,
        "busy_p50_ms": 1e3 * median(busy),
        "busy_max_ms": 1e3 * max(busy),
    }


async def _probe(client: HeadraceClient, probes: Sequence[ToSend]) -> list[float]:
    """Seconds to the first token of each, one after another."""
    gaps, until_s = random.Random(24), time.monotonic() + LIMIT_S
    seconds = []
    for probe in probes:
        if time.monotonic() > until_s:
            break
        seconds.append((await ask(client, probe, MODEL)).first_token_s)
        await asyncio.sleep(gaps.uniform(*GAP_S))
    return seconds
