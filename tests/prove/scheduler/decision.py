"""What one decision of the scheduler costs, with a thousand requests held and a hundred lanes."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from headrace.contract.costs import CostGrid, ModelCost
from headrace.contract.values import FinishReason, Priority, Sampling, TokenChunk
from headrace.router.core import commands as cmd
from headrace.router.core import events as ev
from headrace.router.core.scheduler import Scheduler
from headrace.router.core.settings import SchedulerSettings

HELD = 1_000
WORKERS, LANES, MAX_BATCH = 10, 10, 8
TENANTS = 20
CLASSES = (Priority.REALTIME, Priority.NORMAL, Priority.BATCH)
BATCHES = 1_500
"""That end while it is measured, after a tenth of that unmeasured."""
MODEL = "m"
_BATCHES, _CONTEXTS = (1, 2, 4, 8), (16, 128, 512, 2048)
COST = ModelCost(
    step=CostGrid(
        batches=_BATCHES,
        contexts=_CONTEXTS,
        seconds=tuple(0.010 * (1 + 0.15 * b) * (1 + c / 1024) for b in _BATCHES for c in _CONTEXTS),
    ),
    prefill=CostGrid(
        batches=_BATCHES,
        contexts=_CONTEXTS,
        seconds=tuple(0.0008 * b * c * (1 + c / 2048) for b in _BATCHES for c in _CONTEXTS),
    ),
)


@dataclass(slots=True)
class Lane:
    """A batch as its worker has it."""

    start: cmd.Start
    ends_s: float


@dataclass(slots=True)
class Around:
    """All that is around the scheduler: it does what is commanded, and measures how long each answer takes."""

    scheduler: Scheduler
    rng: random.Random
    now: float = 0.0
    number: int = 0
    running: dict[int, Lane] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    """What a held request will make."""
    sent: dict[str, int] = field(default_factory=dict)
    """What it has made."""

    def tell(self, event: ev.Event) -> tuple[float, bool]:
        """Seconds that the answer took, and whether it started a batch."""
        began_s = time.perf_counter()
        commands = self.scheduler.handle(event, self.now)
        took_s = time.perf_counter() - began_s
        for command in commands:
            self._do(command)
        return took_s, any(isinstance(command, cmd.Start) for command in commands)

    def arrive(self) -> float:
        """One more request; seconds."""
        self.number += 1
        tenant, priority = f"t{self.rng.randrange(TENANTS)}", self.rng.choice(CLASSES)
        request_id, most = f"r{self.number}", self.rng.randint(16, 256)
        self.lengths[request_id] = self.rng.randint(1, most)
        event = ev.RequestArrived(
            request_id=request_id,
            queue=f"hr.v1.req.{MODEL}.{priority.label}.{tenant}",
            model=MODEL,
            priority=priority,
            tenant=tenant,
            sampling=Sampling(),
            prompt_tokens=self.rng.randint(16, 512),
            max_tokens=most,
            arrived_s=self.now,
        )
        return self.tell(event)[0]

    def end_next(self) -> tuple[float, bool]:
        """The batch that is through first ends; what the answer to that took, and whether another was started."""
        batch = min(self.running, key=lambda number: self.running[number].ends_s)
        lane = self.running.pop(batch)
        self.now = max(self.now, lane.ends_s)
        for assignment in lane.start.assignments:
            self._complete(assignment)
        return self.tell(ev.BatchEnded(worker=lane.start.worker, lane=lane.start.lane, batch=batch))

    def _complete(self, assignment: cmd.Assignment) -> None:
        made = self.sent.get(assignment.request_id, 0)
        count = self.lengths.get(assignment.request_id, 0) - made
        if count > 0:
            tokens = TokenChunk(first_index=made, token_ids=(1,) * count, text="")
            self.tell(ev.Progressed(assignment=assignment.number, tokens=tokens))
        self.tell(ev.EntryCompleted(assignment=assignment.number, finish_reason=FinishReason.END))

    def _do(self, command: cmd.Command) -> None:
        match command:
            case cmd.Start():
                steps = max(self.lengths[one.request_id] for one in command.assignments)
                self.running[command.batch] = Lane(command, self.now + 0.02 * steps + 0.1)
            case cmd.Deliver(request_id=request_id, tokens=tokens):
                self.sent[request_id] = tokens.next_index
            case cmd.Settle(request_id=request_id):
                self.lengths.pop(request_id, None)
                self.sent.pop(request_id, None)
                self.tell(ev.Settled(request_id=request_id))


async def decision(folder: Path) -> Mapping[str, float]:
    """In this process, alone: batches end and requests arrive in turn, so that a thousand are always held."""
    around = _around()
    ends: list[float] = []
    arrivals: list[float] = []
    for number in range(BATCHES + BATCHES // 10):
        took_s, started = around.end_next()
        if started and number >= BATCHES // 10:
            ends.append(took_s)
        while len(around.scheduler) < HELD:
            took_s = around.arrive()
            if number >= BATCHES // 10:
                arrivals.append(took_s)
    return {
        "batch_us": 1e6 * median(ends),
        "arrival_us": 1e6 * median(arrivals),
        "batch_p99_us": _p99_us(ends),
        "arrival_p99_us": _p99_us(arrivals),
        "batches": float(len(ends)),
        "arrivals": float(len(arrivals)),
    }


def _around() -> Around:
    around = Around(
        Scheduler(SchedulerSettings(max_held=2 * HELD)),
        random.Random(61),
    )
    around.tell(ev.ModelsKnown(models=frozenset({MODEL})))
    for priority in CLASSES:
        for tenant in range(TENANTS):
            around.tell(ev.QueueSeen(queue=f"hr.v1.req.{MODEL}.{priority.label}.t{tenant}", model=MODEL))
    for number in range(WORKERS):
        around.tell(
            ev.WorkerJoined(
                worker=f"w{number}",
                lanes=LANES,
                max_batch=MAX_BATCH,
                models=frozenset({MODEL}),
                costs={MODEL: COST},
            )
        )
    while len(around.scheduler) < HELD:
        around.arrive()
    return around


def _p99_us(seconds: Sequence[float]) -> float:
    return 1e6 * quantiles(seconds, n=100)[98]
