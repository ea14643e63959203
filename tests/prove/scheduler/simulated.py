"""The policy against others on virtual machines, under a synthetic load like a conversation service's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from headrace.contract.values import Priority
from headrace.simulator.figures import Figures
from headrace.simulator.flood import FLOODER, Flood
from headrace.simulator.load import LoadSpec
from headrace.simulator.scenario import HEADRACE, ORACLE, Scenario
from headrace.simulator.study import Findings, Plan, run_study

CLASSES = ((Priority.REALTIME, 2.0), (Priority.HIGH, 3.0), (Priority.NORMAL, 5.0))
FIFO, BASELINES = "fifo-ll", ("fifo-ll", "priority-ll", "dynamic")
FLOOD = Flood(start_s=20.0, duration_s=30.0, factor=5.0)
CALM = 0.6
"""Of its capacity: what is offered beside the flood."""


async def simulated(folder: Path) -> Mapping[str, float]:
    """Capacities at 99 % goodput, twice the capacity, everything at once, and a flood; medians of five seeds."""
    return await asyncio.to_thread(_simulated)


def _simulated() -> dict[str, float]:
    small, larger = _scenario("small", 1500), _scenario("larger", 800)
    found = _study(small, (HEADRACE, *BASELINES, ORACLE), capacity=True)
    capacity = {one.policy: one.tokens_per_s.median for one in found.capacities}
    others = _study(larger, (HEADRACE, *BASELINES), capacity=True)
    large = {one.policy: one.tokens_per_s.median for one in others.capacities}
    (twice,) = (point for point in found.overload if point.policy == HEADRACE)
    at_once = _study(small, (HEADRACE, ORACLE), saturated=True)
    makespan = {point.policy: median(run.makespan_s for run in point.runs) for point in at_once.points}
    peak = max(
        median(run.goodput_tokens for run in point.runs) * point.offered
        for point in found.points
        if point.policy == HEADRACE
    )
    return {
        "capacity": capacity[HEADRACE],
        "to_best": capacity[HEADRACE] / max(capacity[policy] for policy in BASELINES),
        "to_fifo": capacity[HEADRACE] / capacity[FIFO],
        "to_oracle": capacity[HEADRACE] / capacity[ORACLE],
        "larger_to_best": large[HEADRACE] / max(large[policy] for policy in BASELINES),
        "admitted_in_time": median(run.goodput / (1 - run.shed) for run in twice.runs),
        "goodput_to_peak": median(run.goodput_tokens for run in twice.runs) * twice.offered / peak,
        "makespan_to_oracle": makespan[HEADRACE] / makespan[ORACLE],
        **_flooded(small, CALM * capacity[HEADRACE]),
    }


def _flooded(scenario: Scenario, offered: float) -> dict[str, float]:
    """What a flood does to the others."""
    calm = _study(scenario, (HEADRACE,), offered=(offered,)).points[0].runs
    flooded_scenario = _scenario("small", scenario.load.requests, FLOOD)
    flooded = _study(flooded_scenario, (HEADRACE,), offered=(offered,)).points[0].runs
    return {
        "flood_first_p99": median(_others_p99_s(run) for run in flooded)
        / median(_others_p99_s(run) for run in calm),
        "flood_makespan": median(run.makespan_s for run in flooded) / median(run.makespan_s for run in calm),
    }


def _others_p99_s(run: Figures) -> float:
    return max(part.first_token_p99_s for tenant, part in run.by_tenant.items() if tenant != FLOODER)


def _scenario(grid: str, requests: int, flood: Flood | None = None) -> Scenario:
    load = LoadSpec(trace=None, requests=requests, classes=CLASSES, tenants=4, flood=flood)
    return Scenario(load=load, grid=grid)


def _study(
    scenario: Scenario,
    policies: tuple[str, ...],
    *,
    capacity: bool = False,
    saturated: bool = False,
    offered: tuple[float, ...] = (),
) -> Findings:
    plan = Plan(
        scenario=scenario,
        policies=policies,
        capacity=capacity,
        saturated=saturated,
        offered=offered,
        processes=os.cpu_count() or 1,
    )
    return run_study(plan, lambda what, done, of: None)
