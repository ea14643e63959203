"""Dynamic batching: one queue with levels, and batches of what stands first as executors become free.

A free executor takes `max_batch` requests where so many wait. Else it waits for more, until the first of them has
waited for `delay_s`; then it takes what is there. Levels are the classes; a batch is filled from the next level on.
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


class Dynamic:
    """Late binding, and mixed batches; the fastest free executor takes the next."""

    def __init__(self, machines: Sequence[Machine], *, max_batch: int, delay_s: float, clock: Clock) -> None:
        self._max_batch = max_batch
        self._delay_s = delay_s
        self._clock = clock
        self._executors = sorted(build_executors(machines, clock, self), key=lambda one: one.factor)
        self._queue: list[tuple[int, int, Life]] = []
        self._by_lane = {(one.worker.name, one.lane): one for one in self._executors}

    @property
    def workers(self) -> list[VirtualWorker]:
        return list(dict.fromkeys(one.worker for one in self._executors))

    def arrived(self, life: Life) -> None:
        heappush(self._queue, (int(life.asked.priority), life.asked.index, life))
        self._fill()
        if self._delay_s and life.outcome is None and self._queue:
            self._clock.at(self._clock.now + self._delay_s, self._waited, life)

    def progressed(self, entry: Entry, tokens: int) -> None:
        """Nothing follows."""

    def ended(self, entry: Entry) -> None:
        entry.life.end(OutcomeKind.COMPLETED)

    def freed(self, worker: VirtualWorker, batch: Batch) -> None:
        self._by_lane[worker.name, batch.lane].free = True
        self._fill()

    def _waited(self, _life: Life, _version: int) -> None:
        self._fill()

    def _fill(self) -> None:
        queue = self._queue
        while queue and (executor := self._free()) is not None:
            if len(queue) < self._max_batch:
                # The clock adds and this subtracts: a request that has waited to the last bit counts as due.
                oldest_s = min(life.asked.arrival_s for _, _, life in queue)
                if self._clock.now < oldest_s + self._delay_s:
                    return
            executor.start([heappop(queue)[2] for _ in range(min(self._max_batch, len(queue)))])

    def _free(self) -> Executor | None:
        return next((one for one in self._executors if one.free), None)
