"""The virtual machines: how many slots and lanes, and how fast."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from headrace.contract.costs import CostGrid, ModelCost
from headrace.router.core.cost import CostModel
from headrace.simulator.clock import Clock
from headrace.simulator.engine import Hearer, VirtualWorker

_WORKER = re.compile(r"\s*(\d+)\s*x\s*(\d+(?:\.\d+)?)\s*(?:\+\s*(\d+))?\s*$")
_MOST_SLOTS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A worker: `slots` lanes of it run at once, and every cost is `factor` times that of the grids."""

    name: str
    slots: int
    lanes: int
    factor: float
    cost: ModelCost

    def build(self, clock: Clock, hearer: Hearer) -> VirtualWorker:
        """The worker, idle."""
        return VirtualWorker(
            self.name,
            costs=CostModel(self.cost),
            slots=self.slots,
            lanes=self.lanes,
            clock=clock,
            hearer=hearer,
        )


def parse_fleet(text: str, cost: ModelCost) -> tuple[Machine, ...]:
    """`2x1.0,2x2.5+1`: a worker with 2 slots, and one 2.5 times slower with 2 slots and one spare lane. As many spare
    lanes as slots where none are named. Raises ValueError.
    """
    machines = []
    for number, part in enumerate(text.split(","), 1):
        found = _WORKER.match(part)
        slots = int(found[1]) if found else 0
        factor = float(found[2]) if found else 0.0
        if not found or not 1 <= slots <= _MOST_SLOTS or factor <= 0:
            raise ValueError(
                f"{part.strip()!r} is no worker: write 2x1.0 (slots x slowness) or 2x1.0+1 (spare lanes)"
            )
        spare = int(found[3]) if found[3] is not None else slots
        machines.append(
            Machine(
                name=f"w{number}",
                slots=slots,
                lanes=slots + min(spare, _MOST_SLOTS),
                factor=factor,
                cost=slower(cost, factor),
            )
        )
    return tuple(machines)


def slower(cost: ModelCost, factor: float) -> ModelCost:
    """What it costs on a machine that takes `factor` times as long for everything."""

    def scale(grid: CostGrid) -> CostGrid:
        return replace(grid, seconds=tuple(cell * factor for cell in grid.seconds))

    return ModelCost(step=scale(cost.step), prefill=scale(cost.prefill), load_s=cost.load_s * factor)
