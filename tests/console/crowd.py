"""A mesh that is not there: routers that show themselves with hundreds of workers and queues, all of it in motion.

    python -m tests.console.crowd --nats-url nats://127.0.0.1:4222 --workers 200 --queues 500

The console cannot tell it from a real one. What it does is arithmetic: no two runs differ.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import nats

from headrace.contract.state import (
    BUCKETS,
    BatchState,
    ModelState,
    QueueState,
    RouterState,
    TimingState,
    TotalState,
    WorkerState,
    bucket_of,
)
from headrace.contract.state_wire import encode_state
from headrace.contract.subjects import state_subject
from headrace.contract.values import Priority

MODELS = ("smollm2", "llama-3-8b", "qwen-14b", "embedder", "translator")
TENANTS = ("shop", "search", "billing", "mail", "support", "archive", "legal", "research", "edge", "fleet")
EVERY_S = 0.25


@dataclass
class Crowd:
    """The routers, `workers` and `queues` shared among them."""

    workers: int = 200
    queues: int = 500
    routers: int = 2
    lanes: int = 8
    steps: int = 0
    _totals: list[int] = field(default_factory=list)
    _started_s: float = field(default_factory=time.time)
    _first: list[list[list[int]]] = field(default_factory=list)
    _inter: list[list[list[int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(7)
        self._totals = [0] * self.routers
        for counts in (self._first, self._inter):
            counts += [[[0] * BUCKETS for _ in Priority] for _ in range(self.routers)]

    def step(self) -> list[RouterState]:
        """The next state of all."""
        self.steps += 1
        return [self._router(number) for number in range(self.routers)]

    def _router(self, number: int) -> RouterState:
        now = time.time()
        self._totals[number] += 40 * self.workers // self.routers
        self._time(number)
        workers = [self._worker(n, now) for n in range(self.workers) if n % self.routers == number]
        queues = [self._queue(n, now) for n in range(self.queues) if n % self.routers == number]
        return RouterState(
            router=f"router-{number + 1}",
            address=f"10.0.0.{number + 1}:7701",
            started_s=self._started_s - 86_400,
            at_s=now,
            held=sum(queue.waiting for queue in queues) + sum(len(w.batches) * 3 for w in workers),
            models=tuple(
                ModelState(name=name, version=f"{place + 1}f3a2c9d", task="generate", context_length=4096)
                for place, name in enumerate(MODELS)
            ),
            workers=tuple(workers),
            queues=tuple(sorted(queues, key=lambda queue: -(queue.waiting + queue.backlog))),
            totals=TotalState(
                tokens=self._totals[number], completed=self._totals[number] // 90, failed=self.steps // 40
            ),
            timings=tuple(
                TimingState(
                    priority=priority,
                    first_token=tuple(self._first[number][priority]),
                    inter_token=tuple(self._inter[number][priority]),
                )
                for priority in Priority
            ),
        )

    def _time(self, number: int) -> None:
        wave = 1 + 0.5 * math.sin(self.steps / 40)
        for priority in Priority:
            for _ in range(6):
                first_s = wave * 0.12 * 4**priority * self._random.lognormvariate(0, 0.5)
                inter_s = 0.018 * (1 + 0.4 * priority) * self._random.lognormvariate(0, 0.25)
                self._first[number][priority][bucket_of(first_s)] += 1
                self._inter[number][priority][bucket_of(inter_s)] += 1

    def _worker(self, number: int, now: float) -> WorkerState:
        batches = []
        for lane in range(self.lanes):
            phase = (self.steps + 13 * number + 29 * lane) % 160
            if phase < 22:
                continue
            begun = now - (phase - 22) * EVERY_S
            priority = Priority((number * 7 + lane * 3 + (self.steps - phase) // 160) % 4)
            paused = lane >= self.lanes // 2
            if paused and (priority < Priority.NORMAL or (number + lane) % 3):
                continue
            batches.append(
                BatchState(
                    lane=lane,
                    batch=(self.steps - phase + 200) * 10_000 + number * 100 + lane,
                    model=number % len(MODELS),
                    priority=priority,
                    entries=1 + (number * 5 + lane * 11) % 16,
                    context=64 + (phase * (3 if not paused else 0)) + (number * 31 + lane * 77) % 900,
                    generated=phase * 3,
                    started_ms=round(begun * 1000),
                    paused_ms=round((now - 2) * 1000) if paused else 0,
                )
            )
        gpu = number % 3 == 0
        return WorkerState(
            id=f"w-{number:04}",
            name=f"{'gpu' if gpu else 'cpu'}-{number:03}",
            device="cuda" if gpu else "cpu",
            started_s=self._started_s - 3600 - number * 60,
            draining=number % 67 == 66,
            lanes=self.lanes,
            slots=self.lanes // 2,
            max_batch=16,
            models=(number % len(MODELS),),
            batches=tuple(batches),
        )

    def _queue(self, number: int, now: float) -> QueueState:
        depth = max(0, round(30 * math.sin(number + self.steps / 30) + 40 * (number % 7 == 0) + 4))
        oldest_s = 0.2 * depth * (1 + number % 4)
        tenant = f"{TENANTS[number % 10]}{'' if number < 200 else f'-{number // 200}'}"
        return QueueState(
            model=MODELS[number // 40 % len(MODELS)],
            priority=Priority(number // 10 % 4),
            tenant=tenant,
            waiting=min(depth, 24),
            backlog=max(0, depth - 24),
            oldest_ms=round((now - oldest_s) * 1000) if depth else 0,
        )


async def main(arguments: Sequence[str] | None = None) -> None:
    """Until interrupted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nats-url", default="nats://127.0.0.1:4222")
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--queues", type=int, default=500)
    options = parser.parse_args(arguments)
    crowd = Crowd(workers=options.workers, queues=options.queues)
    nc = await nats.connect(options.nats_url)
    while True:
        for state in crowd.step():
            await nc.publish(state_subject(state.router), encode_state(state))
        await asyncio.sleep(EVERY_S)


if __name__ == "__main__":
    asyncio.run(main())
