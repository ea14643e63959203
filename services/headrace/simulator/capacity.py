"""The most that can be offered while goodput stays: the largest load of which 99 % of the requests are served well."""

from __future__ import annotations

from collections.abc import Callable

from headrace.router.core.cost import CostModel
from headrace.simulator.load import typical
from headrace.simulator.scenario import Scenario, machines_of

ENOUGH = 0.99
"""Share of the requests."""
PRECISION = 0.02
"""Of the load that is found: runs differ by more from seed to seed."""
GROWTH = 1.5
LEAST = 1 / 64
"""Of the nominal rate: below it, the answer is 0."""


def nominal(scenario: Scenario) -> float:
    """Output tokens a second that the fleet makes of median requests one by one in every slot."""
    prompt, output = typical(scenario.load)
    rate = 0.0
    for machine in machines_of(scenario.fleet, scenario.grid):
        costs = CostModel(machine.cost)
        rate += machine.slots * output / (costs.prefill(1, prompt - 1) + costs.steps(1, prompt, output))
    return rate


def capacity(goodput_at: Callable[[float], float], scenario: Scenario) -> float:
    """Tokens a second; 0 where even `LEAST` is too much. Goodput is taken to fall with the load."""
    first = nominal(scenario)
    low, high = 0.0, 0.0
    at = first / 2
    while not (low and high):
        if goodput_at(at) >= ENOUGH:
            low, at = at, at * GROWTH
        else:
            high, at = at, at / GROWTH
            if high < first * LEAST:
                return 0.0
    while high > low * (1 + PRECISION):
        middle = (low + high) / 2
        if goodput_at(middle) >= ENOUGH:
            low = middle
        else:
            high = middle
    return low
