"""The workers and their lanes. A free lane is a credit: work is bound to it as late as that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class RunningBatch:
    """What a lane decodes now."""

    batch: int
    model: str
    started_s: float
    size: int
    assignments: tuple[int, ...]
    apart: bool = False
    """Whether its worker takes no other of which this is so beside it."""


@dataclass(slots=True, kw_only=True)
class Worker:
    """A worker that joined. Written by Fleet alone."""

    name: str
    max_batch: int
    models: frozenset[str]
    lanes: list[RunningBatch | None]
    """None = free."""
    number: int
    """Counts those that joined."""
    draining: bool = False

    @property
    def free_lanes(self) -> int:
        return 0 if self.draining else self.lanes.count(None)

    @property
    def has_apart(self) -> bool:
        return any(batch is not None and batch.apart for batch in self.lanes)


@dataclass(slots=True)
class Fleet:
    """All workers, by name, in the order in which they joined."""

    workers: dict[str, Worker] = field(default_factory=dict)
    _idle: dict[str, Worker] = field(default_factory=dict)
    """Those that stay and have a free lane: few when there is much to do, and then picking must be quick."""
    _rooms: dict[str, int] = field(default_factory=dict)
    """What `room` gave since a worker last came or went."""
    _joined: int = 0

    def join(self, name: str, lanes: int, max_batch: int, models: frozenset[str]) -> None:
        assert name not in self.workers, "a worker is lost before it joins again"
        assert lanes > 0, "a worker has a lane"
        self._joined += 1
        worker = Worker(
            name=name, max_batch=max_batch, models=models, lanes=[None] * lanes, number=self._joined
        )
        self.workers[name] = self._idle[name] = worker
        self._rooms.clear()

    def drain(self, name: str) -> None:
        """It takes nothing new any more."""
        if (worker := self.workers.get(name)) is not None:
            worker.draining = True
            self._idle.pop(name, None)
            self._rooms.clear()

    def leave(self, name: str) -> list[RunningBatch]:
        """Takes the worker out; gives the batches that were on it."""
        self._idle.pop(name, None)
        self._rooms.clear()
        worker = self.workers.pop(name, None)
        return [batch for batch in worker.lanes if batch is not None] if worker else []

    def occupy(self, name: str, lane: int, batch: RunningBatch) -> None:
        worker = self.workers[name]
        assert worker.lanes[lane] is None, "only a free lane takes a batch"
        worker.lanes[lane] = batch
        if not worker.free_lanes:
            self._idle.pop(name, None)

    def free(self, name: str, lane: int, batch: int) -> RunningBatch | None:
        """Frees the lane if it runs that batch, and gives the batch; None for a late or unknown word."""
        worker = self.workers.get(name)
        if worker is None or not 0 <= lane < len(worker.lanes):
            return None
        running = worker.lanes[lane]
        if running is None or running.batch != batch:
            return None
        worker.lanes[lane] = None
        if not worker.draining:
            self._idle[name] = worker
        return running

    def serving(self, model: str) -> Iterator[Worker]:
        """The workers that have `model` and stay."""
        return (w for w in self.workers.values() if model in w.models and not w.draining)

    def served(self) -> frozenset[str]:
        """The models that have a lane."""
        return frozenset().union(*(w.models for w in self.workers.values() if not w.draining))

    def lanes(self, model: str) -> int:
        return sum(len(w.lanes) for w in self.serving(model))

    def free_lanes(self, model: str) -> int:
        return sum(w.free_lanes for w in self._idle.values() if model in w.models)

    def room(self, model: str) -> int:
        """The most entries of `model` that could run at once."""
        if (room := self._rooms.get(model)) is None:
            room = self._rooms[model] = sum(len(w.lanes) * w.max_batch for w in self.serving(model))
        return room

    def pick(self, model: str, *, apart: bool = False) -> tuple[Worker, int] | None:
        """The free lane to use next: on the worker with the largest share of its lanes free, the earliest to join.

        `apart`: only on one that runs no batch that is apart.
        """
        best = max(
            (w for w in self._idle.values() if model in w.models and not (apart and w.has_apart)),
            key=lambda w: (w.free_lanes / len(w.lanes), -w.number),
            default=None,
        )
        return None if best is None else (best, best.lanes.index(None))
