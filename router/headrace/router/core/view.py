"""What the scheduler lets others see: copies, made when they are asked for. Nothing here changes anything.

Cost: proportional to the workers, to what their lanes run, and to the requests that wait.
"""

from __future__ import annotations

from dataclasses import dataclass

from headrace.contract.values import Priority
from headrace.router.core.fleet import Fleet
from headrace.router.core.lives import Lives
from headrace.router.core.worker import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchView:
    """A lane that has a batch. One whose requests go on in another batch is not seen any more: it ends at once."""

    lane: int
    number: int
    model: str
    priority: Priority
    """The effective class of its requests."""
    entries: int
    """Requests that still run in it."""
    context: int
    """Tokens of the longest of them."""
    generated: int
    """Output tokens of all of them so far."""
    started_s: float
    paused_at_s: float | None
    """None = it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """A worker that joined."""

    name: str
    lanes: int
    slots: int
    max_batch: int
    batches: tuple[BatchView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """A queue of which requests wait here."""

    queue: str
    waiting: int
    oldest_s: float
    """When the oldest of them arrived."""


def view_workers(fleet: Fleet, lives: Lives) -> tuple[WorkerView, ...]:
    """In the order in which they joined."""
    return tuple(
        WorkerView(
            name=worker.name,
            lanes=len(worker.lanes),
            slots=worker.slots,
            max_batch=worker.max_batch,
            batches=tuple(_batch(batch, lives) for batch in worker.batches() if not batch.left),
        )
        for worker in fleet.workers.values()
    )


def _batch(batch: Batch, lives: Lives) -> BatchView:
    running = [held for number in batch.assignments if (held := lives.assigned(number)) is not None]
    return BatchView(
        lane=batch.lane,
        number=batch.number,
        model=batch.model,
        priority=Priority(batch.level),
        entries=len(running),
        context=max((held.context for held in running), default=0),
        generated=sum(held.generated for held in running),
        started_s=batch.started_s,
        paused_at_s=batch.paused_at_s,
    )


def view_queues(lives: Lives) -> tuple[QueueView, ...]:
    """Those of which somebody waits here."""
    found: dict[str, tuple[int, float]] = {}
    for held in lives.waiting:
        count, oldest_s = found.get(held.queue, (0, held.arrived_s))
        found[held.queue] = (count + 1, min(oldest_s, held.arrived_s))
    return tuple(
        QueueView(queue=queue, waiting=count, oldest_s=oldest_s) for queue, (count, oldest_s) in found.items()
    )
