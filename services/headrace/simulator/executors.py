"""The lanes of a virtual fleet as the other policies see them: one for each slot, and what they know of costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.simulator.asked import Life
from headrace.simulator.clock import Clock
from headrace.simulator.engine import Entry, Hearer, VirtualWorker
from headrace.simulator.fleet import Machine


@dataclass(slots=True, eq=False)
class Executor:
    """A slot with its lane."""

    number: int
    factor: float
    worker: VirtualWorker
    lane: int
    free: bool = True

    def start(self, lives: Sequence[Life]) -> None:
        """A batch of them, as they come."""
        self.free = False
        self.worker.start(self.lane, 0, [Entry(life) for life in lives])

    def request_s(self, life: Life, output: float) -> float:
        """How long one alone takes here, if its output is `output`."""
        prompt, costs = life.asked.prompt_tokens, self.worker.costs
        return costs.prefill(1, prompt - 1) + costs.steps(1, prompt, output)


def build_executors(machines: Sequence[Machine], clock: Clock, hearer: Hearer) -> list[Executor]:
    """In the order of the fleet."""
    found: list[Executor] = []
    for machine in machines:
        worker = machine.build(clock, hearer)
        found += [Executor(len(found) + lane, machine.factor, worker, lane) for lane in range(machine.slots)]
    return found
