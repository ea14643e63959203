"""What the scheduler is told. All times are seconds of one monotonic clock, the caller's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.contract.costs import ModelCost
from headrace.contract.values import (
    Failure,
    FinishReason,
    OutcomeKind,
    Priority,
    Sampling,
    Task,
    TokenChunk,
    Vector,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestArrived:
    """A request was pulled, checked and tokenised. It answers one unit of demand of its queue."""

    request_id: str
    queue: str
    model: str
    """The version that answers it: it stays with that."""
    asked: str = ""
    """The alias that was asked for; "" = the model itself. Where another version of it has lanes and `model` has none,
    it is given back to its queue, and comes for that one."""
    priority: Priority
    tenant: str
    sampling: Sampling
    prompt_tokens: int
    max_tokens: int
    generated: int = 0
    """Tokens that an earlier router delivered already: the output goes on after them."""
    attempts: int = 0
    """Assignments at earlier routers, as far as they told."""
    losses: int = 0
    """Those of them that were lost or failed."""
    arrived_s: float
    """When the broker accepted it."""
    deadline_s: float | None = None
    task: Task = Task.GENERATE
    texts: int = 0
    """To embed: how many there are; `prompt_tokens` are those of all together."""
    static: str = ""
    """What tells its static prompt from others; "" = it has none. Only equal ones share a batch."""
    static_tokens: int = 0
    """Tokens of it, with which the prompt begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefused:
    """A pulled message was no request to hold: malformed, over a limit, or answered before. It, too, answers demand."""

    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSeen:
    """The broker holds messages of this queue. `model` is None where the subject names no queue at all."""

    queue: str
    model: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueGone:
    """The broker holds nothing of this queue, and it is not watched any more."""

    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PullLapsed:
    """`count` of the pulled messages of a queue never came: the pull expired or was lost."""

    queue: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsKnown:
    """The models that this router can tokenise for; requests for others are pulled only to be refused."""

    models: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutesKnown:
    """What the aliases come to: by name, the versions that may answer those who ask for it."""

    routes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJoined:
    """A worker offers all its lanes, free but for `busy`."""

    worker: str
    lanes: int
    max_batch: int
    models: frozenset[str]
    slots: int = 0
    """Lanes that run at once, at most `lanes`; 0 = all. The others hold batches that are paused."""
    costs: Mapping[str, ModelCost] = field(default_factory=dict)
    """What its models cost there, where somebody has measured it."""
    tasks: Mapping[str, Task] = field(default_factory=dict)
    """What its models are for; those that are not in it generate."""
    busy: frozenset[int] = frozenset()
    """Lanes that still compute what another router gave them: not free before `LaneFreed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCame:
    """A worker has loaded a model, or another version of one that it had."""

    worker: str
    model: str
    cost: ModelCost | None = None
    """What it costs there, where somebody has measured it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelWent:
    """A worker takes no more batches of a model; those that run go on."""

    worker: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsComing:
    """All models that a worker is about to have, each with when it is expected to; None = nobody knows."""

    worker: str
    models: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDraining:
    """A worker takes no new batches."""

    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    """A worker's stream broke: whatever it ran is nowhere now."""

    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """Tokens of an assignment came in."""

    assignment: int
    tokens: TokenChunk


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryCompleted:
    """An assignment's generation ended by itself."""

    assignment: int
    finish_reason: FinishReason
    vectors: tuple[Vector, ...] = ()
    """Of its texts, where they were to be embedded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFailed:
    """The worker could not go on with an assignment."""

    assignment: int
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryStopped:
    """The worker ended an assignment because it was told to, or because it leaves."""

    assignment: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEnded:
    """A lane is free again."""

    worker: str
    lane: int
    batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFreed:
    """A lane that was busy when its worker joined is free."""

    worker: str
    lane: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAsked:
    """Somebody wants a request ended; `kind` is CANCELLED or EXPIRED."""

    tenant: str
    request_id: str
    kind: OutcomeKind = OutcomeKind.CANCELLED


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTaken:
    """Another router goes on with a request that this one has, or had: it was silent for too long."""

    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersServe:
    """The models that other living routers have lanes for."""

    models: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The Settle or Release of a request is done, or has failed for good: nothing of it is left here."""

    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Woke:
    """The time of an earlier WakeAt has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainBegan:
    """This router leaves: nothing new is pulled or started, and what waits goes back to its queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainEnded:
    """The grace of a drain is over: what still runs goes back to its queue, too."""


Event = (
    RequestArrived
    | RequestRefused
    | QueueSeen
    | QueueGone
    | PullLapsed
    | ModelsKnown
    | RoutesKnown
    | WorkerJoined
    | ModelCame
    | ModelWent
    | ModelsComing
    | WorkerDraining
    | WorkerLost
    | Progressed
    | EntryCompleted
    | EntryFailed
    | EntryStopped
    | BatchEnded
    | LaneFreed
    | CancelAsked
    | RequestTaken
    | PeersServe
    | Settled
    | Woke
    | DrainBegan
    | DrainEnded
)
