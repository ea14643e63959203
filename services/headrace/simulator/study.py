"""A study: every policy, at its best setup, over the same loads and seeds.

The setup is chosen on the first seed, by the share of requests that are served well, or by the makespan where all are
there at once; the others are run with it. Capacities are searched for in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from headrace.simulator.capacity import nominal
from headrace.simulator.figures import Figures
from headrace.simulator.jobs import Progress, Run, Search, run_all, search_all
from headrace.simulator.scenario import BATCHES, HEADRACE, ORACLE, Scenario, Setup, setups_of

DEFAULT_LOADS = (0.3, 0.5, 0.7, 0.9, 1.1)
"""Of what the fleet makes one by one: from a quiet mesh to too much."""
OVERLOAD = 2.0
"""Of the capacity that was found for the router's core, or for the best but the oracle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be found out."""

    scenario: Scenario
    policies: tuple[str, ...]
    seeds: int = 5
    offered: tuple[float, ...] = ()
    """Output tokens a second; none: some shares of what the fleet can do."""
    batches: tuple[int, ...] = BATCHES
    saturated: bool = False
    """Everything is there at once: the makespan counts, and `offered` does not."""
    capacity: bool = False
    processes: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Over the seeds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A policy at a load."""

    policy: str
    setup: str
    """How it was set up: the best of what was tried."""
    offered: float
    """Output tokens a second; 0 = everything at once."""
    runs: tuple[Figures, ...]
    """One per seed."""

    def over_seeds(self, value: Callable[[Figures], float]) -> Spread:
        """Of any figure."""
        return spread([value(figures) for figures in self.runs])


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The most tokens a second that a policy takes with 99 % of the requests served well."""

    policy: str
    setup: str
    tokens_per_s: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that a study found."""

    points: tuple[Point, ...]
    capacities: tuple[Capacity, ...] = ()
    overload: tuple[Point, ...] = ()
    """At `OVERLOAD` times the capacity."""


def spread(values: Sequence[float]) -> Spread:
    """Median, least and most."""
    return Spread(median=median(values), low=min(values), high=max(values))


def run_study(plan: Plan, progress: Progress) -> Findings:
    """Runs it."""
    if not plan.capacity:
        return Findings(points=_points(plan, _loads(plan), progress))
    found, setups = _capacities(plan, progress)
    limits = {one.policy: one.tokens_per_s.median for one in found}
    rivals = [limit for policy, limit in limits.items() if policy != ORACLE] or list(limits.values())
    limit = limits.get(HEADRACE) or max(rivals)
    tried = {policy: [setup] for policy, setup in setups.items()}
    loads = plan.offered or tuple(round_load(limit * share) for share in (0.5, 0.75, 1.0, 1.25, 1.5) if limit)
    overload = (round_load(limit * OVERLOAD),) if limit else ()
    return Findings(
        points=_points(plan, loads, progress),
        capacities=tuple(found),
        overload=_points(plan, overload, progress, tried),
    )


def round_load(tokens_per_s: float) -> float:
    """To two digits, as people say it."""
    return float(f"{tokens_per_s:.2g}")


def _loads(plan: Plan) -> tuple[float | None, ...]:
    if plan.saturated:
        return (None,)
    return plan.offered or tuple(round_load(nominal(plan.scenario) * share) for share in DEFAULT_LOADS)


def _points(
    plan: Plan,
    loads: Sequence[float | None],
    progress: Progress,
    setups: dict[str, list[Setup]] | None = None,
) -> tuple[Point, ...]:
    tried = setups or {policy: setups_of(policy, plan.batches) for policy in plan.policies}
    firsts = [
        Run(setup=setup, seed=0, offered=offered)
        for offered in loads
        for policy in plan.policies
        for setup in tried[policy]
    ]
    results = run_all(
        plan.scenario, firsts, processes=plan.processes, what="every setup, first seed", progress=progress
    )
    best: dict[tuple[float | None, str], tuple[Run, Figures]] = {}
    for run, figures in zip(firsts, results, strict=True):
        key = (run.offered, run.setup.policy)
        if key not in best or _worth(run, figures) > _worth(*best[key]):
            best[key] = (run, figures)
    others = [
        Run(setup=run.setup, seed=seed, offered=run.offered)
        for run, _ in best.values()
        for seed in range(1, plan.seeds)
    ]
    more = run_all(
        plan.scenario,
        others,
        processes=plan.processes,
        what="the best setups, other seeds",
        progress=progress,
    )
    each = plan.seeds - 1
    return tuple(
        Point(
            policy=run.setup.policy,
            setup=run.setup.told,
            offered=run.offered or 0.0,
            runs=(figures, *more[index * each : (index + 1) * each]),
        )
        for index, (run, figures) in enumerate(best.values())
    )


def _worth(run: Run, figures: Figures) -> tuple[float, float]:
    """Higher is better; of equally good ones the one whose first tokens come sooner."""
    if run.offered is None:
        return -figures.makespan_s, figures.goodput
    return figures.goodput, -max(part.first_token_p99_s for part in figures.by_class.values())


def _capacities(plan: Plan, progress: Progress) -> tuple[list[Capacity], dict[str, Setup]]:
    scenario, processes = plan.scenario, plan.processes
    firsts = [
        Search(setup=setup, seed=0) for policy in plan.policies for setup in setups_of(policy, plan.batches)
    ]
    found = search_all(
        scenario, firsts, processes=processes, what="capacity of every setup, first seed", progress=progress
    )
    best: dict[str, tuple[float, Setup]] = {}
    for search, limit in zip(firsts, found, strict=True):
        policy = search.setup.policy
        if policy not in best or limit > best[policy][0]:
            best[policy] = (limit, search.setup)
    others = [Search(setup=setup, seed=seed) for _, setup in best.values() for seed in range(1, plan.seeds)]
    more = search_all(
        scenario, others, processes=processes, what="capacity of the best, other seeds", progress=progress
    )
    each = plan.seeds - 1
    capacities = [
        Capacity(
            policy=policy,
            setup=setup.told,
            tokens_per_s=spread([limit, *more[index * each : (index + 1) * each]]),
        )
        for index, (policy, (limit, setup)) in enumerate(best.items())
    ]
    return capacities, {policy: setup for policy, (_, setup) in best.items()}
