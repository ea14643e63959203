"""Policies that bind a request to an executor as it comes: a queue for each, and batches of what stands first there.

- round robin: the next executor in turn.
- least loaded: the one that will have done its work, and this request, soonest. It knows how fast each machine is, what
  a prompt costs there, and how long the mean output is.
- with static priority, the more urgent class stands first in each queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

from headrace.contract.values import OutcomeKind
from headrace.simulator.asked import Life
from headrace.simulator.clock import Clock
from headrace.simulator.engine import Batch, Entry, VirtualWorker
from headrace.simulator.executors import Executor, build_executors
from headrace.simulator.fleet import Machine

_Place = tuple[int, int, Life]


class Queued:
    """A queue per executor, unbounded as it is with those that do so."""

    def __init__(
        self,
        machines: Sequence[Machine],
        *,
        max_batch: int,
        mean_output: float,
        least_loaded: bool,
        by_class: bool,
        clock: Clock,
    ) -> None:
        self._max_batch = max_batch
        self._mean_output = mean_output
        self._least_loaded = least_loaded
        self._by_class = by_class
        self._executors = build_executors(machines, clock, self)
        self._queues: list[list[_Place]] = [[] for _ in self._executors]
        self._ahead_s = [0.0] * len(self._executors)
        """The work of what is queued or runs there."""
        self._bound: dict[int, tuple[int, float]] = {}
        """Executor, and work there, of each request that has not ended."""
        self._arrived = 0
        self._by_lane = {(one.worker.name, one.lane): one for one in self._executors}

    @property
    def workers(self) -> list[VirtualWorker]:
        return list(dict.fromkeys(one.worker for one in self._executors))

    def arrived(self, life: Life) -> None:
        """Binds it."""
        if self._least_loaded:
            works = [one.request_s(life, self._mean_output) for one in self._executors]
            number = min(range(len(works)), key=lambda i: self._ahead_s[i] + works[i])
            self._ahead_s[number] += works[number]
            self._bound[life.asked.index] = (number, works[number])
        else:
            number = self._arrived % len(self._executors)
        self._arrived += 1
        urgency = int(life.asked.priority) if self._by_class else 0
        heappush(self._queues[number], (urgency, life.asked.index, life))
        if self._executors[number].free:
            self._start(self._executors[number])

    def progressed(self, entry: Entry, tokens: int) -> None:
        """Nothing follows."""

    def ended(self, entry: Entry) -> None:
        entry.life.end(OutcomeKind.COMPLETED)
        if (bound := self._bound.pop(entry.life.asked.index, None)) is not None:
            self._ahead_s[bound[0]] -= bound[1]

    def freed(self, worker: VirtualWorker, batch: Batch) -> None:
        executor = self._by_lane[worker.name, batch.lane]
        executor.free = True
        if self._queues[executor.number]:
            self._start(executor)

    def _start(self, executor: Executor) -> None:
        queue = self._queues[executor.number]
        executor.start([heappop(queue)[2] for _ in range(min(self._max_batch, len(queue)))])
