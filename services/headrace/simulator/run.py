"""One load under one policy, until every request has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

from headrace.simulator.asked import Life
from headrace.simulator.clock import Clock
from headrace.simulator.dynamic import Dynamic
from headrace.simulator.figures import Busy, Figures, figures_of
from headrace.simulator.load import make_load, mean_output
from headrace.simulator.mesh import Mesh
from headrace.simulator.objectives import Objectives
from headrace.simulator.oracle import Oracle
from headrace.simulator.queued import Queued
from headrace.simulator.scenario import (
    HEADRACE,
    ORACLE,
    Scenario,
    Setup,
    core_settings,
    machines_of,
    objectives_of,
)


class Policy(Protocol):
    """Who decides what runs where, on virtual workers of its own."""

    @property
    def workers(self) -> Sequence[object]:
        """Each with what it was busy for."""

    def arrived(self, life: Life) -> None:
        """A request has come."""


def simulate(
    scenario: Scenario,
    setup: Setup,
    seed: int,
    *,
    offered: float | None,
    progress: Callable[[int], None] | None = None,
) -> Figures:
    """The figures of one run. `offered`: output tokens a second; None = everything is there at the start."""
    objectives = objectives_of(scenario)
    return play(scenario, setup, seed, offered=offered, objectives=objectives, progress=progress)[1]


def play(
    scenario: Scenario,
    setup: Setup,
    seed: int,
    *,
    offered: float | None,
    objectives: Objectives,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Life], Figures]:
    """The same, with what became of each request."""
    lives = [Life(asked) for asked in make_load(scenario.load, seed, offered=offered)]
    clock = Clock()
    # Where all is there at once most objectives cannot be met; what counts then is when everything is done.
    known = Objectives() if offered is None and setup.policy == HEADRACE else objectives
    policy = _policy(scenario, setup, mean_output(scenario.load, seed), known, clock)
    clock.run(lives, policy.arrived, progress)
    lost = [life for life in lives if life.outcomes != 1]
    assert not lost, f"every request ends exactly once, not as {lost[:3]} with {setup.policy}"
    slots = sum(machine.slots for machine in machines_of(scenario.fleet, scenario.grid))
    return lives, figures_of(lives, objectives, cast("Sequence[Busy]", policy.workers), slots)


def _policy(scenario: Scenario, setup: Setup, mean: float, objectives: Objectives, clock: Clock) -> Policy:
    machines, max_batch = machines_of(scenario.fleet, scenario.grid), setup.max_batch
    match setup.policy:
        case name if name == HEADRACE:
            return Mesh(core_settings(scenario, objectives), machines, scenario.max_batch, clock)
        case name if name == ORACLE:
            return Oracle(machines, max_batch=max_batch, mean_output=mean, objectives=objectives, clock=clock)
        case "dynamic":
            unit_s = objectives.first_token_s[0] / scenario.first_token[0] / 10
            return Dynamic(machines, max_batch=max_batch, delay_s=setup.delay * unit_s, clock=clock)
        case name:
            return Queued(
                machines,
                max_batch=max_batch,
                mean_output=mean,
                least_loaded=name != "fifo-rr",
                by_class=name == "priority-ll",
                clock=clock,
            )
