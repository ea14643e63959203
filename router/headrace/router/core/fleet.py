"""The workers and their lanes. A free slot is a credit: work is bound to it as late as that.

A worker holds as many batches as it has lanes, and runs as many of them as it has slots; the others are paused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from headrace.contract.costs import ModelCost
from headrace.contract.values import Priority, Task
from headrace.router.core.cost import UNKNOWN, CostModel
from headrace.router.core.kept import AfterStatic
from headrace.router.core.lockstep import duration_s
from headrace.router.core.worker import KEPT, LEFTOVER, TYPICAL, Batch, Worker, about


@dataclass(slots=True)
class Fleet:
    """All workers, by name, in the order in which they joined."""

    workers: dict[str, Worker] = field(default_factory=dict)
    _open: dict[str, Worker] = field(default_factory=dict)
    """Those that can begin a batch now: few when there is much to do, and then picking must be quick."""
    _roomy: dict[str, Worker] = field(default_factory=dict)
    """Those that stay and have a free lane, with a slot for it or without."""
    _paused: dict[str, Worker] = field(default_factory=dict)
    """Those that can go on with a paused batch now."""
    _rooms: dict[str, int] = field(default_factory=dict)
    """What `room` gave since a worker last came or went."""
    _fastest: dict[str, CostModel] = field(default_factory=dict)
    """What `fastest` gave since a worker last came, went or was freed."""
    _speeds: dict[str, float] = field(default_factory=dict)
    """What `speed` gave since then."""
    _levels: list[int] = field(default_factory=lambda: [0] * len(Priority))
    """Running batches by level."""
    _joined: int = 0

    def join(
        self,
        name: str,
        *,
        lanes: int,
        slots: int,
        max_batch: int,
        models: frozenset[str],
        costs: Mapping[str, ModelCost],
        tasks: Mapping[str, Task] | None = None,
        busy: Collection[int] = (),
    ) -> None:
        """`busy`: lanes that still compute what another router gave them."""
        assert name not in self.workers, "a worker is lost before it joins again"
        assert lanes > 0, "a worker has a lane"
        self._joined += 1
        worker = Worker(
            name=name,
            max_batch=max_batch,
            slots=min(slots or lanes, lanes),
            costs={
                model: CostModel(costs.get(model, UNKNOWN), (tasks or {}).get(model, Task.GENERATE))
                for model in sorted(models)
            },
            lanes=[LEFTOVER if lane in busy else None for lane in range(lanes)],
            running=len(busy),
            number=self._joined,
        )
        worker.pace = {model: duration_s(cost, (TYPICAL,)) for model, cost in worker.costs.items()}
        self.workers[name] = worker
        self._changed(worker)
        self._forget()

    def model_came(self, name: str, model: str, cost: ModelCost | None) -> None:
        """A worker serves one more model, or another version of one."""
        if (worker := self.workers.get(name)) is None:
            return
        costs = worker.costs[model] = CostModel(cost or UNKNOWN)
        worker.pace[model] = duration_s(costs, (TYPICAL,))
        worker.forget_kept(model)
        self._changed(worker)
        self._forget()

    def model_went(self, name: str, model: str) -> None:
        """A worker begins no more batches of a model; what it runs of it goes on."""
        if (worker := self.workers.get(name)) is not None and worker.costs.pop(model, None) is not None:
            del worker.pace[model]
            worker.forget_kept(model)
            self._forget()

    def ready_at_s(self, model: str) -> float | None:
        """When the first worker is expected to have loaded it; None where that is not known, or none is about to."""
        known = (w.coming[model] for w in self.workers.values() if model in w.coming and not w.draining)
        return min((at_s for at_s in known if at_s is not None), default=None)

    def drain(self, name: str) -> None:
        """It takes nothing new any more; what is paused on it may go on."""
        if (worker := self.workers.get(name)) is not None:
            worker.draining = True
            self._changed(worker)
            self._forget()

    def leave(self, name: str) -> list[Batch]:
        """Takes the worker out; gives the batches that were on it."""
        self._open.pop(name, None)
        self._roomy.pop(name, None)
        self._paused.pop(name, None)
        worker = self.workers.pop(name, None)
        self._forget()
        if worker is None:
            return []
        for batch in worker.batches():
            self._levels[batch.level] -= batch.runs
        return list(worker.batches())

    def begin(self, batch: Batch) -> None:
        """A free lane runs it."""
        worker = self.workers[batch.worker]
        assert worker.lanes[batch.lane] is None, "only a free lane takes a batch"
        assert worker.running < worker.slots, "only a free slot runs a batch"
        worker.lanes[batch.lane] = batch
        if batch.static_tokens:
            if len(worker.kept) >= KEPT:
                worker.kept.clear()  # a guess that is wrong costs one prefill in the reckoning
            worker.kept.add((batch.model, batch.members[0].static))
        worker.running += 1
        self._levels[batch.level] += 1
        self._changed(worker)

    def pause(self, batch: Batch, now: float) -> None:
        assert batch.runs, "only what runs can be paused"
        worker = self.workers[batch.worker]
        batch.paused_at_s = now
        worker.running -= 1
        self._levels[batch.level] -= 1
        self._changed(worker)

    def leave_slot(self, batch: Batch) -> None:
        """Its members go on in another batch."""
        assert batch.runs, "only what runs has a slot"
        worker = self.workers[batch.worker]
        worker.running -= 1
        self._levels[batch.level] -= 1
        batch.left = True
        self._changed(worker)

    def resume(self, batch: Batch, now: float) -> None:
        assert batch.paused_at_s is not None
        worker = self.workers[batch.worker]
        assert worker.running < worker.slots, "only a free slot runs a batch"
        batch.paused_s += now - batch.paused_at_s
        batch.paused_at_s = None
        worker.running += 1
        self._levels[batch.level] += 1
        self._changed(worker)

    def end(self, name: str, lane: int, number: int) -> Batch | None:
        """Frees the lane if it has that batch, and gives the batch; None for a late or unknown word."""
        worker = self.workers.get(name)
        if worker is None or not 0 <= lane < len(worker.lanes):
            return None
        batch = worker.lanes[lane]
        if not isinstance(batch, Batch) or batch.number != number:
            return None
        worker.lanes[lane] = None
        worker.running -= batch.runs
        self._levels[batch.level] -= batch.runs
        self._changed(worker)
        return batch

    def free(self, name: str, lane: int) -> None:
        """What was left over on a lane has ended; nothing happens where there was nothing."""
        worker = self.workers.get(name)
        if worker is None or not 0 <= lane < len(worker.lanes) or worker.lanes[lane] is not LEFTOVER:
            return
        worker.lanes[lane] = None
        worker.running -= 1
        self._changed(worker)
        self._forget()

    def serving(self, model: str) -> Iterator[Worker]:
        """The workers that have `model` and stay."""
        return (w for w in self.workers.values() if model in w.costs and not w.draining)

    def open(self, model: str) -> Iterator[Worker]:
        """Those of them that can begin a batch now."""
        return (w for w in self._open.values() if model in w.costs)

    @property
    def roomy(self) -> bool:
        """Whether any worker has a free lane: without one nothing can begin, whatever is paused for it."""
        return bool(self._roomy)

    def resumable(self) -> Worker | None:
        """A worker that has a free slot and a paused batch."""
        return next(iter(self._paused.values()), None)

    def served(self) -> frozenset[str]:
        """The models that have a lane."""
        return frozenset().union(*(w.costs for w in self.workers.values() if not w.draining))

    def slots(self, model: str) -> int:
        return sum(w.slots for w in self.serving(model))

    def held_up(self, model: str) -> bool:
        """Whether all workers of `model` are."""
        return all(w.held_up for w in self.serving(model))

    def slots_of_any(self, models: Collection[str]) -> tuple[int, int]:
        """The slots of the workers that serve any of these models, and those of them that are open."""
        serving = [w for w in self.workers.values() if not (w.draining or w.costs.keys().isdisjoint(models))]
        return sum(w.slots for w in serving), sum(w.open_slots for w in serving)

    def open_slots(self, model: str) -> int:
        return sum(w.open_slots for w in self.open(model))

    def room(self, model: str) -> int:
        """The most entries of `model` that could run at once."""
        if (room := self._rooms.get(model)) is None:
            room = self._rooms[model] = sum(w.slots * w.max_batch for w in self.serving(model))
        return room

    def fastest(self, model: str) -> CostModel | None:
        """What `model` costs on the worker that was the fastest for it when one last came, went or was freed, of those
        that are not held up if there is one; None where nobody serves it.
        """
        if (known := self._fastest.get(model)) is None:
            best = min(self.serving(model), key=lambda w: (w.held_up, w.pace[model]), default=None)
            if best is None:
                return None
            known = self._fastest[model] = best.costs[model]
        return known

    def faster(self, than: Worker, model: str, factor: float) -> list[Worker]:
        """The workers that are more than `factor` times as fast as one of them, and not held up."""
        limit = than.pace[model] / factor
        return [w for w in self.serving(model) if w.pace[model] < limit and not w.held_up]

    def relative(self, worker: Worker, model: str) -> float:
        """How fast a worker is, the fastest being 1."""
        best = self.fastest(model)
        return 1.0 if best is None else min(1.0, duration_s(best, (TYPICAL,)) / worker.pace[model])

    def speed(self, model: str) -> float:
        """The slots of `model` without those that are held up, each counted by how fast its worker was when one last
        came, went or was freed.
        """
        if (known := self._speeds.get(model)) is None:
            known = sum((w.slots - w.leftovers) * self.relative(w, model) for w in self.serving(model))
            self._speeds[model] = known
        return known

    def victim(
        self, model: str, level: int, *, apart: bool, now: float, takes_s: Callable[[Worker], float]
    ) -> Batch | None:
        """The batch to pause for a request of that class, which takes `takes_s` on a worker; None where there is none,
        or no lane for the request.
        """
        if not any(self._levels[level + 1 :]):
            return None
        best: tuple[tuple[bool, int, int, float, int], Batch] | None = None
        for worker in self.serving(model):
            if None not in worker.lanes or (apart and worker.has_apart):
                continue
            alone_s = takes_s(worker)
            for batch in worker.batches():
                if batch.level > level and batch.runs and not batch.stuck:
                    ends = about(alone_s + worker.prefill_left_s(batch, now))
                    spare = batch.slack_s > batch.paused_s
                    key = (spare, batch.level, -ends, batch.residual_s(now), -batch.number)
                    if best is None or key > best[0]:
                        best = (key, batch)
        return None if best is None else best[1]

    def observe(self, batch: Batch, now: float) -> None:
        """A batch has ended: its worker's costs are corrected by how long it took."""
        worker = self.workers.get(batch.worker)
        made = [(context, output) for context, output in batch.made() if output > 0]
        costs = None if worker is None else worker.costs.get(batch.model)
        if worker is None or costs is None or batch.disturbed or batch.left or len(made) < len(batch.members):
            return  # one that made nothing may have ended at any time
        view = AfterStatic(costs, batch.static_tokens, batch.kept) if batch.static_tokens else costs
        costs.observe(duration_s(view, made), batch.ran_s(now))
        worker.pace[batch.model] = duration_s(costs, (TYPICAL,))

    def _changed(self, worker: Worker) -> None:
        roomy = not worker.draining and None in worker.lanes
        _keep(self._roomy, worker, there=roomy)
        _keep(self._open, worker, there=roomy and worker.open_slots > 0)
        free = worker.running < worker.slots
        _keep(
            self._paused,
            worker,
            there=free and any(batch.paused and not batch.left for batch in worker.batches()),
        )

    def _forget(self) -> None:
        self._rooms.clear()
        self._fastest.clear()
        self._speeds.clear()


def _keep(workers: dict[str, Worker], worker: Worker, *, there: bool) -> None:
    if there:
        workers[worker.name] = worker
    else:
        workers.pop(worker.name, None)
