"""A real run again in the simulator: the same requests at the same times, by the same core, at measured costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median, quantiles
from typing import Any

from headrace.contract.costs import ModelCost
from headrace.contract.values import Priority, Sampling
from headrace.router.core.settings import SchedulerSettings
from headrace.simulator.asked import Asked, Life
from headrace.simulator.clock import Clock
from headrace.simulator.fleet import Machine, slower
from headrace.simulator.mesh import Mesh

Row = Mapping[str, Any]
"""A request of a recorded run: times in seconds from its start, in the order of arrival."""


def compared(
    sample: Sequence[Row], run: Sequence[Row], cost: ModelCost, *, slots: int, lanes: int, max_batch: int
) -> dict[str, float]:
    """Simulated / real, of the time to the first token and to the end, at the median and at the 99th percentile.

    The costs are those of the engine alone, and the mesh runs on the same cores: `sample`, a run of its own in which
    all came at once, says by how much that slows it down.
    """
    machine = Machine(name="worker", slots=slots, lanes=lanes, factor=1.0, cost=cost)
    factor = _makespan_s(sample) / max(life.last_s for life in _played(sample, machine, max_batch))
    lives = _played(run, replace(machine, factor=factor, cost=slower(cost, factor)), max_batch)
    real_first = [row["first_token_s"] - row["arrival_s"] for row in run]
    real_end = [row["end_s"] - row["arrival_s"] for row in run]
    first = [life.first_s - life.asked.arrival_s for life in lives]
    end = [life.last_s - life.asked.arrival_s for life in lives]
    return {
        "factor": factor,
        "first_p50": median(first) / median(real_first),
        "first_p99": _p99(first) / _p99(real_first),
        "end_p50": median(end) / median(real_end),
        "end_p99": _p99(end) / _p99(real_end),
    }


def _played(rows: Sequence[Row], machine: Machine, max_batch: int) -> list[Life]:
    """The requests in the simulator."""
    lives = [
        Life(
            Asked(
                index,
                row["arrival_s"],
                row["prompt_tokens"],
                row["output_tokens"],
                row["max_tokens"],
                Priority[row["priority"].upper()],
                row["tenant"],
            )
        )
        for index, row in enumerate(rows)
    ]
    clock = Clock()
    mesh = Mesh(SchedulerSettings(), [machine], max_batch, clock, sampling=Sampling(ignore_end=True))
    clock.run(lives, mesh.arrived, None)
    return lives


def _makespan_s(rows: Sequence[Row]) -> float:
    return float(max(row["end_s"] for row in rows) - min(row["arrival_s"] for row in rows))


def _p99(seconds: Sequence[float]) -> float:
    return quantiles(seconds, n=100)[98]
