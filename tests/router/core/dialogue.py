"""Speaking with a scheduler: events with defaults in, and short forms of the commands that come back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headrace.contract.costs import CostGrid, ModelCost
from headrace.contract.values import GREEDY, Failure, FinishReason, Priority, TokenChunk
from headrace.router.core.commands import Assignment, Command, Deliver, Start
from headrace.router.core.events import (
    BatchEnded,
    EntryCompleted,
    EntryFailed,
    Event,
    Progressed,
    RequestArrived,
    WorkerJoined,
)
from headrace.router.core.held import Held
from headrace.router.core.scheduler import Scheduler
from headrace.router.core.settings import SchedulerSettings


class Dialogue:
    """A scheduler, and what time it is."""

    def __init__(self, *events: Event, **settings: Any) -> None:
        self.scheduler = Scheduler(SchedulerSettings(**settings))
        self.now = 0.0
        self.tell(*events)

    def tell(self, *events: Event, at: float | None = None) -> list[Command]:
        """What the events are answered with, all together."""
        self.now = self.now if at is None else at
        return [command for event in events for command in self.scheduler.handle(event, self.now)]

    def start(self, *events: Event) -> Start:
        """The events are answered with one batch, and nothing else."""
        answer = self.tell(*events)
        (start,) = batches(answer)
        assert answer == [start]
        return start

    def end(self, batch: Start, *, at: float | None = None) -> list[Command]:
        """All entries of a batch complete, and it ends: the answer to its end."""
        for assignment in batch.assignments:
            self.tell(completed(assignment), at=at)
        return self.tell(ended(batch))


def request(request_id: str = "r", **changes: Any) -> RequestArrived:
    """A request that arrives: 10 tokens in, 20 out, of model m."""
    fields: dict[str, Any] = {
        "queue": "q",
        "model": "m",
        "priority": Priority.NORMAL,
        "tenant": "t",
        "sampling": GREEDY,
        "prompt_tokens": 10,
        "max_tokens": 20,
        "arrived_s": 0.0,
    }
    return RequestArrived(request_id=request_id, **{**fields, **changes})


def held(request_id: str = "r", **changes: Any) -> Held:
    """A held request of the same kind."""
    fields: dict[str, Any] = {
        "queue": "q",
        "model": "m",
        "priority": Priority.NORMAL,
        "tenant": "t",
        "sampling": GREEDY,
        "prompt_tokens": 10,
        "max_tokens": 20,
        "arrived_s": 0.0,
        "deadline_s": None,
        "generated": 0,
    }
    fields |= changes
    return Held(request_id=request_id, **{"level": int(fields["priority"]), **fields})


def joined(
    worker: str = "w",
    *,
    lanes: int = 1,
    slots: int = 0,
    max_batch: int = 4,
    models: str = "m",
    cost: ModelCost | None = None,
    busy: Iterable[int] = (),
) -> WorkerJoined:
    """A worker joins; each letter of `models` is a model, and all cost `cost`."""
    return WorkerJoined(
        worker=worker,
        lanes=lanes,
        slots=slots,
        max_batch=max_batch,
        models=frozenset(models),
        costs={} if cost is None else dict.fromkeys(models, cost),
        busy=frozenset(busy),
    )


def costs(
    *, step_s: float = 0.01, per_entry_s: float = 0.002, prefill_s: float = 0.001, slower: float = 1.0
) -> ModelCost:
    """A step takes `step_s` and `per_entry_s` for each entry, a prefill `prefill_s` a token, on a worker that is
    `slower`.
    """
    one, two = step_s + per_entry_s, step_s + 2 * per_entry_s
    steps = [slower * seconds for seconds in (one, one, two, two)]
    prefills = [slower * prefill_s * tokens for tokens in (1, 1000, 2, 2000)]
    axes: dict[str, Any] = {"batches": (1, 2), "contexts": (1, 1000)}
    return ModelCost(
        step=CostGrid(**axes, seconds=tuple(steps)), prefill=CostGrid(**axes, seconds=tuple(prefills))
    )


def made(assignment: Assignment, first: int, count: int = 1) -> Progressed:
    """A frame of `count` tokens from index `first` on."""
    return Progressed(assignment=assignment.number, tokens=chunk(first, count))


def chunk(first: int, count: int = 1) -> TokenChunk:
    ids = tuple(range(first, first + count))
    return TokenChunk(first_index=first, token_ids=ids, text="".join(f" {token}" for token in ids))


def completed(assignment: Assignment, reason: FinishReason = FinishReason.END) -> EntryCompleted:
    return EntryCompleted(assignment=assignment.number, finish_reason=reason)


def failed(assignment: Assignment, problem: str = "the engine failed: out of memory") -> EntryFailed:
    return EntryFailed(assignment=assignment.number, failure=Failure(code="ENGINE_FAILED", message=problem))


def ended(batch: Start) -> BatchEnded:
    return BatchEnded(worker=batch.worker, lane=batch.lane, batch=batch.batch)


def who(batch: Start) -> list[str]:
    """The requests of a batch, in its order."""
    return [assignment.request_id for assignment in batch.assignments]


def batches(commands: Iterable[Command]) -> list[Start]:
    """The batches that are started."""
    return [command for command in commands if isinstance(command, Start)]


def groups(commands: Iterable[Command]) -> list[list[str]]:
    """The requests of each batch that is started."""
    return [who(batch) for batch in batches(commands)]


def delivered(commands: Iterable[Command]) -> list[int]:
    """The indices of the tokens that are delivered."""
    return [
        index
        for command in commands
        if isinstance(command, Deliver)
        for index in range(command.tokens.first_index, command.tokens.next_index)
    ]
