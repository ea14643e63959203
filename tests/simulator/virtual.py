"""Small virtual things for the simulator's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace.contract.costs import CostGrid, ModelCost
from headrace.contract.values import Priority
from headrace.router.core.cost import CostModel
from headrace.simulator.asked import Asked, Life
from headrace.simulator.clock import Clock
from headrace.simulator.engine import Batch, Entry, VirtualWorker
from headrace.simulator.load import LoadSpec
from headrace.simulator.scenario import Scenario

COST = ModelCost(
    step=CostGrid(batches=(1, 4), contexts=(10, 110), seconds=(0.010, 0.020, 0.016, 0.040)),
    prefill=CostGrid(batches=(1, 4), contexts=(10, 110), seconds=(0.010, 0.110, 0.020, 0.400)),
)
COSTS = CostModel(COST)
MIX = ((Priority.REALTIME, 2.0), (Priority.HIGH, 3.0), (Priority.NORMAL, 5.0))


def life(prompt: int, output: int, index: int = 0) -> Life:
    """A request that is there from the start."""
    return Life(Asked(index, 0.0, prompt, output, 100, Priority.NORMAL, "t1"))


def scenario(requests: int = 300, **load: Any) -> Scenario:
    """Three classes and three tenants on the default fleet."""
    return Scenario(load=LoadSpec(trace=None, requests=requests, classes=MIX, **{"tenants": 3, **load}))


class Heard:
    """What a worker said, as (seconds, word, index of the request, …)."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.said: list[tuple[Any, ...]] = []
        self.tokens: dict[int, int] = {}

    def progressed(self, entry: Entry, tokens: int) -> None:
        index = entry.life.asked.index
        self.tokens[index] = self.tokens.get(index, 0) + tokens
        self.said.append((self.clock.now, "progressed", index, tokens))

    def ended(self, entry: Entry) -> None:
        self.said.append((self.clock.now, "ended", entry.life.asked.index))

    def freed(self, worker: VirtualWorker, batch: Batch) -> None:
        self.said.append((self.clock.now, "freed", batch.lane))


class Bench:
    """One worker on a clock of its own."""

    def __init__(self, *, slots: int = 1, lanes: int = 2) -> None:
        self.clock = Clock()
        self.heard = Heard(self.clock)
        self.worker = VirtualWorker(
            "w", costs=COSTS, slots=slots, lanes=lanes, clock=self.clock, hearer=self.heard
        )

    def at(self, seconds: float, do: Any) -> None:
        self.clock.at(seconds, lambda _what, _version: do(), None)

    def run(self) -> None:
        self.clock.run([], lambda life: None)


def write_trace(path: Path, rows: int = 50) -> Path:
    """A small recorded load."""
    lines = [f"{index * 0.5},{100 + index * 13 % 400},{30 + index * 7 % 200}" for index in range(rows)]
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(lines) + "\n")
    return path
