"""What router and worker say to each other on `Work`, as values. A message holds whatever was ready."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.contract.costs import ModelCost
from headrace.contract.log_level import LogLevel
from headrace.contract.values import (
    NO_TRACE,
    Failure,
    FinishReason,
    Sampling,
    Task,
    TokenChunk,
    TraceContext,
    Vector,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device that inference runs on."""

    kind: str
    """"cpu" or "cuda"."""
    index: int = 0
    name: str = ""
    cores: int = 0
    memory_bytes: int = 0
    compute_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model on a worker; `version` comes from the content of its files."""

    name: str
    """Its reference: opaque, `name` or `name@version`."""
    version: str
    compute_type: str
    cost: ModelCost | None = None
    """What it costs there; None where nobody has measured it."""
    task: Task = Task.GENERATE


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJoin:
    """What a worker is."""

    worker_id: str
    name: str
    version: str
    device: Device
    lanes: int
    """Batches that it holds at once."""
    max_batch: int
    models: tuple[ServedModel, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    started_s: float = 0.0
    """When its process started, in Unix time."""
    drain_grace_s: float = 0.0
    """How long its running batches may go on once it drains."""
    slots: int = 0
    """Lanes that run at once; 0 = all. The others hold batches that are paused."""
    metrics: str = ""
    """host:port at which Prometheus finds its metrics; empty where nowhere."""
    busy_lanes: tuple[int, ...] = ()
    """Lanes that still compute what a router before this one gave them, until `WorkerMessage.freed` names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryEnd:
    """How an entry ended on a worker: a finish reason, a failure, or neither: the router asked for it, or the worker
    leaves and gives it back.
    """

    finish_reason: FinishReason | None = None
    failure: Failure | None = None
    cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryProgress:
    """What one entry made since the last message. An unknown assignment is a late frame, and ignored."""

    assignment: int
    tokens: TokenChunk | None = None
    end: EntryEnd | None = None
    vectors: tuple[Vector, ...] = ()
    """Of the entry's texts, in their order; with the end that says that it completed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEnded:
    """A lane is free again."""

    batch: int
    lane: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ComingModel:
    """A model that a worker fetches or loads, and how long that will take; None = nobody knows."""

    name: str
    version: str
    ready_in_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerMessage:
    """From worker to router. `ended` comes after the progress of all the batch's entries."""

    join: WorkerJoin | None = None
    progress: tuple[EntryProgress, ...] = ()
    ended: tuple[BatchEnded, ...] = ()
    draining: bool = False
    came: tuple[ServedModel, ...] = ()
    """Loaded since; what it had under their names takes no more batches."""
    went: tuple[str, ...] = ()
    """It takes no more batches for these once the router has answered; what runs goes on."""
    coming: tuple[ComingModel, ...] | None = None
    """All that it is about to have; None = unchanged."""
    spans: bytes = b""
    """A bundle of spans that have ended there, for the router to publish."""
    freed: tuple[int, ...] = ()
    """Lanes of `WorkerJoin.busy_lanes` that are free now; any other is ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEntry:
    """One attempt of one request."""

    assignment: int
    request_id: str
    attempt: int
    prompt: tuple[int, ...]
    """Empty where there are `texts`."""
    generated: tuple[int, ...] = ()
    """What earlier attempts made: the output goes on after it, and its indices count from its length."""
    max_tokens: int
    """Of the whole output, `generated` included."""
    stop: tuple[str, ...] = ()
    trace: TraceContext = NO_TRACE
    texts: tuple[tuple[int, ...], ...] = ()
    """What is to be embedded: the tokens of each text."""
    target_prefix: tuple[int, ...] = ()
    """What a translation is made to begin with: no part of the output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartBatch:
    """A batch for a free lane. It begins as soon as a slot is free."""

    batch: int
    lane: int
    model: str
    sampling: Sampling
    entries: tuple[BatchEntry, ...]
    static_tokens: int = 0
    """The first so many tokens of each prompt are the same in all, and worth keeping: see `Engine.run`. 0 = none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A living router as others reach it: its address is `host:port`."""

    router_id: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterMessage:
    """From router to worker."""

    welcome: str = ""
    """The router's id: the answer to a join."""
    start: tuple[StartBatch, ...] = ()
    cancel: tuple[int, ...] = ()
    """Assignments to end within one step."""
    draining: bool = False
    peers: tuple[Peer, ...] | None = None
    """The living routers; None = unchanged."""
    leave: bool = False
    """An operator wants this worker to drain and end."""
    pause: tuple[int, ...] = ()
    """Batches to pause at their next step: their lanes keep what they have computed, and free their slots."""
    resume: tuple[int, ...] = ()
    """Paused batches to go on with. Starts come first, then pauses, then resumes."""
    released: tuple[str, ...] = ()
    """The answer to `went`: no batch for these comes after this."""
    log_level: LogLevel | None = None
    """An operator wants this worker to log so much from now on; None = as before."""
