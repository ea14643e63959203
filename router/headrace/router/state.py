"""This router as others see it: built from what the core and the links let be seen, bounded in size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from headrace.contract.errors import InvalidRequest
from headrace.contract.state import BatchState, ModelState, QueueState, RouterState, WorkerState
from headrace.contract.state_wire import encode_state
from headrace.contract.subjects import parse_queue
from headrace.router.clock import Clock
from headrace.router.core.view import BatchView, QueueView, WorkerView
from headrace.router.figures import Figures
from headrace.router.worker_link import WorkerLink

MAX_WORKERS = 1_000
MAX_QUEUES = 1_000
MAX_BATCHES = 8_000
"""Of all workers together. With names of full length a state of all three is some 500 kB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the parts of the router let be seen at one moment."""

    workers: tuple[WorkerView, ...]
    waiting: tuple[QueueView, ...]
    backlogs: Mapping[str, int]
    """By queue: what the broker still has of it."""
    links: dict[str, WorkerLink]
    """By worker id."""
    models: tuple[ModelState, ...]
    held: int
    draining: bool


class Portrait:
    """Makes states of what is seen."""

    def __init__(
        self, router_id: str, address: str, *, clock: Clock, figures: Figures, look: Callable[[], Seen]
    ) -> None:
        self._router_id = router_id
        self._address = address
        self._clock = clock
        self._figures = figures
        self._look = look
        self._started_s = time.time()

    def encoded(self, max_bytes: int) -> bytes:
        """The state as it is sent; where it is larger than `max_bytes`, with ever fewer workers and queues."""
        state = self.state()
        body = encode_state(state)
        while len(body) > max_bytes and (state.workers or state.queues):
            workers, queues = len(state.workers) // 2, len(state.queues) // 2
            state = replace(
                state,
                workers=state.workers[:workers],
                queues=state.queues[:queues],
                workers_left_out=state.workers_left_out + len(state.workers) - workers,
                queues_left_out=state.queues_left_out + len(state.queues) - queues,
            )
            body = encode_state(state)
        return body

    def state(self) -> RouterState:
        """As it is now."""
        seen = self._look()
        places = {model.name: place for place, model in enumerate(seen.models)}
        workers = self._workers(seen, places)
        queues = sorted(self._queues(seen), key=lambda queue: -(queue.waiting + queue.backlog))
        return RouterState(
            router=self._router_id,
            address=self._address,
            started_s=self._started_s,
            at_s=time.time(),
            draining=seen.draining,
            held=seen.held,
            models=seen.models,
            workers=tuple(workers),
            queues=tuple(queues[:MAX_QUEUES]),
            totals=self._figures.totals(),
            timings=self._figures.timings(),
            workers_left_out=len(seen.workers) - len(workers),
            queues_left_out=max(0, len(queues) - MAX_QUEUES),
        )

    def _workers(self, seen: Seen, places: dict[str, int]) -> list[WorkerState]:
        found, room = [], MAX_BATCHES
        for view in seen.workers[:MAX_WORKERS]:
            link = seen.links.get(view.name)
            if link is None:
                continue
            batches = [self._batch(batch, places) for batch in view.batches[:room] if batch.model in places]
            room -= len(batches)
            found.append(
                WorkerState(
                    id=view.name,
                    name=link.join.name,
                    device=link.join.device.kind,
                    started_s=link.join.started_s,
                    draining=link.draining or link.leave,
                    lanes=view.lanes,
                    slots=view.slots,
                    max_batch=view.max_batch,
                    models=tuple(sorted(places[model] for model in link.models if model in places)),
                    batches=tuple(batches),
                    batches_left_out=len(view.batches) - len(batches),
                )
            )
        return sorted(found, key=lambda worker: worker.name)

    def _batch(self, batch: BatchView, places: dict[str, int]) -> BatchState:
        return BatchState(
            lane=batch.lane,
            batch=batch.number,
            model=places[batch.model],
            priority=batch.priority,
            entries=batch.entries,
            context=batch.context,
            generated=batch.generated,
            started_ms=self._unix_ms(batch.started_s),
            paused_ms=0 if batch.paused_at_s is None else self._unix_ms(batch.paused_at_s),
        )

    def _queues(self, seen: Seen) -> Iterable[QueueState]:
        waiting = {view.queue: view for view in seen.waiting}
        for subject in waiting.keys() | {subject for subject, count in seen.backlogs.items() if count}:
            try:
                queue = parse_queue(subject)
            except InvalidRequest:
                continue  # its messages become dead letters; nobody waits for an answer
            view = waiting.get(subject)
            yield QueueState(
                model=queue.model,
                priority=queue.priority,
                tenant=queue.tenant,
                waiting=view.waiting if view else 0,
                backlog=seen.backlogs.get(subject, 0),
                oldest_ms=self._unix_ms(view.oldest_s) if view else 0,
            )

    def _unix_ms(self, at_s: float) -> int:
        return max(0, round(self._clock.to_unix(at_s) * 1000))
