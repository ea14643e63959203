"""A real run again in the simulator: the same requests at the same times, by the same core, at measured costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import Any

from headrace.contract.costs import ModelCost
from headrace.contract.values import Priority, Sampling
from headrace.router.core.settings import SchedulerSettings
from headrace.simulator.asked import Asked, Life
from headrace.simulator.clock import Clock
from headrace.simulator.fleet import Machine
from headrace.simulator.mesh import Mesh


def compared(
    run: Mapping[str, Any], cost: ModelCost, *, slots: int, lanes: int, max_batch: int
) -> dict[str, float]:
    """Simulated / real, of the time to the first token and to the end, at the median and at the 99th percentile."""
    rows = sorted(run["requests"], key=lambda row: float(row["arrival_s"]))
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
    machine = Machine(name="worker", slots=slots, lanes=lanes, factor=1.0, cost=cost)
    mesh = Mesh(SchedulerSettings(), [machine], max_batch, clock, sampling=Sampling(ignore_end=True))
    clock.run(lives, mesh.arrived, None)
    real_first = [row["first_token_s"] - row["arrival_s"] for row in rows]
    real_end = [row["end_s"] - row["arrival_s"] for row in rows]
    first = [life.first_s - life.asked.arrival_s for life in lives]
    end = [life.last_s - life.asked.arrival_s for life in lives]
    return {
        "first_p50": median(first) / median(real_first),
        "first_p99": _p99(first) / _p99(real_first),
        "end_p50": median(end) / median(real_end),
        "end_p99": _p99(end) / _p99(real_end),
    }


def _p99(seconds: Sequence[float]) -> float:
    return quantiles(seconds, n=100)[98]
