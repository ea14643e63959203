"""What all runs of a study have in common, and which policies there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache

from headrace.router.core.settings import SchedulerSettings
from headrace.simulator.fleet import Machine, parse_fleet
from headrace.simulator.grids import load_grid
from headrace.simulator.load import LoadSpec, typical
from headrace.simulator.objectives import FIRST_TOKEN, TOKEN, Objectives, relative

HEADRACE = "headrace"
ORACLE = "oracle"
POLICIES = {
    HEADRACE: "the router's core",
    "fifo-rr": "first come, round robin",
    "fifo-ll": "first come, least loaded",
    "priority-ll": "static priority, least loaded",
    "dynamic": "dynamic batching with priorities",
    ORACLE: "continuous batching, which this engine cannot do",
}
BATCHES = (1, 2, 4, 8, 16, 32)
"""What the others are tried with."""
DELAYS = (0.0, 1.0)
"""What dynamic batching is tried with: in tenths of a median request, alone on the fastest machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A load, a fleet, and what is asked of them."""

    load: LoadSpec
    grid: str = "small"
    fleet: str = "2x1.0,2x2.5"
    first_token: tuple[float, ...] = FIRST_TOKEN
    token: tuple[float, ...] = TOKEN
    max_batch: int = 32
    """Of the workers, for the router's core, which chooses its batches itself."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Of the router's core, where they are not its own."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Setup:
    """A policy, set up."""

    policy: str
    max_batch: int = 0
    """0 = the policy's own choice."""
    delay: float = 0.0

    @property
    def told(self) -> str:
        """How it is set up, for a person."""
        if not self.max_batch:
            return ""
        return f"batch {self.max_batch}" + (", delay" if self.delay else "")


def setups_of(policy: str, batches: tuple[int, ...] = BATCHES) -> list[Setup]:
    """All that a policy is tried with."""
    if policy == HEADRACE:
        return [Setup(policy=policy)]
    delays = DELAYS if policy == "dynamic" else (0.0,)
    return [
        Setup(policy=policy, max_batch=batch, delay=delay)
        for batch in batches
        for delay in delays
        if batch > 1 or not delay
    ]


@lru_cache(maxsize=64)
def machines_of(fleet: str, grid: str) -> tuple[Machine, ...]:
    """The machines. Raises ValueError."""
    return parse_fleet(fleet, load_grid(grid))


def objectives_of(scenario: Scenario) -> Objectives:
    """In seconds."""
    return relative(
        machines_of(scenario.fleet, scenario.grid),
        typical(scenario.load),
        scenario.first_token,
        scenario.token,
    )


def core_settings(scenario: Scenario, objectives: Objectives) -> SchedulerSettings:
    """The core's, which knows the objectives where it has settings for them. Raises ValueError for unknown ones."""
    known = {one.name for one in fields(SchedulerSettings)}
    if unknown := sorted(set(scenario.settings) - known):
        raise ValueError(
            f"{', '.join(unknown)}: no setting of the scheduler; there are {', '.join(sorted(known))}"
        )
    own = {"first_token_s": objectives.first_token_s, "token_s": objectives.token_s}
    told: dict[str, object] = {name: value for name, value in own.items() if name in known}
    return SchedulerSettings(**{**told, **scenario.settings})  # type: ignore[arg-type]


def parse_settings(texts: list[str]) -> dict[str, object]:
    """`lookahead=64`, `ageing_s=inf`. Raises ValueError, and names the settings that there are."""
    found: dict[str, object] = {}
    defaults = {one.name: getattr(SchedulerSettings(), one.name) for one in fields(SchedulerSettings)}
    plain = {name: value for name, value in defaults.items() if isinstance(value, int | float)}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in plain:
            raise ValueError(f"{text!r} sets nothing: write NAME=NUMBER; there are {', '.join(plain)}")
        try:
            found[name] = type(plain[name])(value)
        except ValueError:
            kind = "a whole number" if isinstance(plain[name], int) else "a number"
            raise ValueError(f"{name} is {kind}, not {value!r}") from None
    return found
