"""That nothing is lost when processes die: shorter forms of what `make chaos` and `make soak` do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from tests.chaos import soak as soaking
from tests.chaos.growth import Growth
from tests.chaos.options import HARMLESS, Options
from tests.chaos.report import Report
from tests.chaos.run import Run
from tests.chaos.schedule import NATS, Act
from tests.prove.answers import real_model

LOST, DOUBLED, GAPS = ("lost",), ("doubled",), ("gap", "content", "changed")
"""What breaks each of the three promises, by the checker's names; whatever else it finds is `other`."""


async def storm(folder: Path) -> Mapping[str, float]:
    """Kills, hangs, drains and partitions of every process at once, fake engine."""
    report = await _run(folder, Options(seed=101, duration_s=100.0, every_s=1.8))
    return {**_faults(report), "kills": float(report.kills), "requests": float(report.accepted)}


async def kills(folder: Path) -> Mapping[str, float]:
    """Kills one by one, so that each shows what it costs; a spare of each kind is there."""
    options = Options(
        seed=102,
        duration_s=115.0,
        every_s=0.5,
        hit=("worker", "router", "gateway"),
        acts=(Act.KILL,),
        alone=True,
    )
    report = await _run(folder, options)
    p99_s = {stalls.kind: stalls.p99_s for stalls in report.stalls if not stalls.lone}
    return {
        **_faults(report),
        "worker_stall": p99_s["worker kill"],
        "router_stall": p99_s["router kill"],
        "gateway_stall": p99_s["gateway kill"],
    }


async def model_storm(folder: Path) -> Mapping[str, float]:
    """The real model, float32: what goes on elsewhere is what would have been."""
    models = (await asyncio.to_thread(real_model)).path.parent
    options = Options(
        seed=103, duration_s=70.0, every_s=3.0, clients=10, odds=HARMLESS, model="smollm2", models=models
    )
    report = await _run(folder, options)
    return {**_faults(report), "kills": float(report.kills)}


async def rolling(folder: Path) -> Mapping[str, float]:
    """Every process is drained and replaced in turn, under load."""
    report = await _run(folder, Options(seed=104, duration_s=20.0, rolling=True))
    return {"faults": float(sum(report.violations.values())), "restarts": float(sum(report.blows.values()))}


async def soak(folder: Path) -> Mapping[str, float]:
    """A thousand streams at once, for a minute."""
    plan = soaking.Plan(seconds=60.0, tokens=(20, 40))
    found = await soaking.Soak(plan, folder, _tell).run()
    return {
        "errors": float(found.errors.total() + len(found.problems)),
        "open": float(found.least_open),
        "flowing": float(found.least_flowing),
        "growth": max(100 * one.share for one in found.growths if one.name != NATS),
        "files": float(sum(one.more_files for one in found.growths)),
        "broker_growth": _mib(next(one for one in found.growths if one.name == NATS)),
    }


def _mib(growth: Growth) -> float:
    return growth.last_mib - growth.first_mib


async def _run(folder: Path, options: Options) -> Report:
    report = await Run(options, folder / "run", _tell).run()
    for note in report.notes:
        _tell(note)
    return report


def _faults(report: Report) -> dict[str, float]:
    """By promise."""
    found = report.violations
    named = {"lost": LOST, "doubled": DOUBLED, "gaps": GAPS}
    faults = {name: float(sum(found.get(one, 0) for one in ones)) for name, ones in named.items()}
    return {**faults, "other": float(sum(found.values())) - sum(faults.values())}


def _tell(line: str) -> None:
    print(f"  {line}", flush=True)
