"""A saturated engine: what the mesh makes of it, against the engine with nothing around it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from headrace.bench.direct import Runs
from headrace.bench.directs import DirectEngine
from headrace.bench.driver import ToSend
from headrace.bench.drivers import Drive, drive
from headrace.bench.figures import figures_of
from headrace.bench.plan import Target
from headrace.bench.record import Record
from headrace.bench.usage import UsageMeter
from headrace.cli.bench_run import MeshAsked, mesh_to_measure
from headrace.cli.supervisor import Supervisor
from tests.prove.answers import real_model
from tests.prove.scheduler.load import MIXED, MODEL, requests

COUNT = 64
SORTED = (2, 4, 8, 1)
NAIVE = 8
TIMEOUT_S = 300.0


async def saturated(folder: Path) -> Mapping[str, float]:
    """All requests wait at once. The mesh goes first and in the middle, so that a machine that others use as well slows
    down both sides alike; of its two runs the tokens and the times are added.
    """
    load = await asyncio.to_thread(lambda: requests(real_model(), MIXED, count=COUNT, seed=11))
    asked = MeshAsked(address=None, fake=None, workers=1, overrides={}, direct=True)
    async with mesh_to_measure(MODEL, asked, Supervisor()) as target:
        assert target.direct is not None
        # What runs at once: a mesh may have more lanes than that, to pause some.
        cores = len(os.sched_getaffinity(0))
        setup = replace(
            target.direct, lanes=min(target.direct.lanes, max(1, cores // target.direct.threads_per_lane))
        )
        async with DirectEngine(target.store, MODEL, setup, folder) as engine:
            first = await through_mesh(target, load, folder)
            by_size = {size: await _directly(engine, load, size, by_length=True) for size in SORTED[:2]}
            second = await through_mesh(target, load, folder)
            by_size |= {size: await _directly(engine, load, size, by_length=True) for size in SORTED[2:]}
            naive = await _directly(engine, load, NAIVE, by_length=False)
    tokens, seconds = (sum(values) for values in zip(_made(first), _made(second), strict=True))
    rate, best = tokens / seconds, max(by_size.values())
    return {
        "errors": float(sum(bool(record.error) for record in [*first, *second])),
        "tokens_per_s": rate,
        "to_best_static": rate / best,
        "to_naive": rate / naive,
        "first_run": _rate(first),
        "second_run": _rate(second),
        "naive": naive,
        **{f"static_{size}": value for size, value in sorted(by_size.items())},
    }


async def through_mesh(target: Target, load: Sequence[ToSend], folder: Path) -> list[Record]:
    """All requests at once: each goes through the durable queue, and waits there or in the router."""
    how = Drive(
        address=target.address,
        model=MODEL,
        clients=len(load),
        warm_up=2 * target.lanes,
        duration_s=None,
        timeout_s=TIMEOUT_S,
        processes=1,
    )
    records = (await drive(how, load, UsageMeter(target.processes), folder, lambda done: None)).records
    print(f"  mesh: {_rate(records):.1f} tokens/s", flush=True)
    return records


async def _directly(engine: DirectEngine, load: Sequence[ToSend], size: int, *, by_length: bool) -> float:
    """Output tokens a second."""
    how = Runs(lanes=engine.lanes, batch=size, by_length=by_length, open_loop=False, clients=0)
    rate = _rate((await engine.run(load, how, lambda done: None)).records)
    print(
        f"  engine, {'sorted' if by_length else 'first come'}, batch {size}: {rate:.1f} tokens/s", flush=True
    )
    return rate


def _made(records: Sequence[Record]) -> tuple[float, float]:
    """Output tokens and seconds, from the first that was sent to the last that ended."""
    figures = figures_of(records, dict.fromkeys((record.index for record in records), 0))
    return float(figures.output_tokens), figures.wall_s


def _rate(records: Sequence[Record]) -> float:
    tokens, seconds = _made(records)
    return tokens / seconds
