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

FACTORS = (0.5, 3.0)
HALVINGS = 9
"""Of that range: to half a hundredth."""

Row = Mapping[str, Any]
"""A request of a recorded run: times in seconds from its start, in the order of arrival."""


def compared(
    samples: Sequence[Sequence[Row]],
    runs: Sequence[Sequence[Row]],
    cost: ModelCost,
    *,
    slots: int,
    lanes: int,
    max_batch: int,
) -> dict[str, float]:
    """By what factor simulated and real are apart: times to the first token and to the end, at the median and at the
    99th percentile.

    The costs are those of the engine alone, and the mesh runs on the same cores: `samples`, other runs under the
    same load, say by how much that slows it down.
    """
    machine = Machine(name="worker", slots=slots, lanes=lanes, factor=1.0, cost=cost)
    factor = _factor(samples, machine, max_batch)
    lives = [life for run in runs for life in _played(run, _slower(machine, factor), max_batch)]
    real_first = [row["first_token_s"] - row["arrival_s"] for run in runs for row in run]
    real_end = [row["end_s"] - row["arrival_s"] for run in runs for row in run]
    first = [life.first_s - life.asked.arrival_s for life in lives]
    end = [life.last_s - life.asked.arrival_s for life in lives]
    return {
        "factor": factor,
        "first_p50": _apart(median(first), median(real_first)),
        "first_p99": _apart(_p99(first), _p99(real_first)),
        "end_p50": _apart(median(end), median(real_end)),
        "end_p99": _apart(_p99(end), _p99(real_end)),
    }


def _apart(one_s: float, other_s: float) -> float:
    """At least 1, whichever is the longer."""
    return max(one_s / other_s, other_s / one_s)


def _factor(samples: Sequence[Sequence[Row]], machine: Machine, max_batch: int) -> float:
    """By how much slower the machine has to be for these requests to take as long as they did, all together."""
    real_s = sum(row["end_s"] - row["arrival_s"] for sample in samples for row in sample)
    low, high = FACTORS
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        lives = (life for sample in samples for life in _played(sample, _slower(machine, middle), max_batch))
        if sum(life.last_s - life.asked.arrival_s for life in lives) < real_s:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _slower(machine: Machine, factor: float) -> Machine:
    return replace(machine, factor=factor, cost=slower(machine.cost, factor))


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


def _p99(seconds: Sequence[float]) -> float:
    return quantiles(seconds, n=100)[98]
