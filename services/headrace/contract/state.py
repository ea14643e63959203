"""What a router shows of itself to whoever looks on. No prompt, no output and no request id is in it.

Models are named once, in `RouterState.models`; all else refers to them by their place there.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from headrace.contract.values import Priority

FIRST_BOUND_S = 0.001
BOUNDS_S = tuple(FIRST_BOUND_S * 2 ** (step / 2) for step in range(40))
"""Upper bounds of the buckets of a timing, a factor of √2 apart: 1 ms to 12 minutes. One more counts all above."""
BUCKETS = len(BOUNDS_S) + 1


def bucket_of(seconds: float) -> int:
    """The place of the bucket that counts this."""
    return bisect_left(BOUNDS_S, seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """A model that a router knows."""

    name: str
    version: str = ""
    task: str = ""
    context_length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchState:
    """A lane that has a batch."""

    lane: int
    batch: int
    model: int
    priority: Priority
    """The effective class of its requests."""
    entries: int
    """Requests that still run in it."""
    context: int
    """Tokens of the longest of them, prompt and output."""
    generated: int
    """Output tokens of all of them so far."""
    started_ms: int
    """Unix time."""
    paused_ms: int = 0
    """Since when it has been paused, in Unix time; 0 = it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """A worker, and what its lanes run."""

    id: str
    """Unique among those that ever joined."""
    name: str
    """What operators call it."""
    device: str = ""
    started_s: float = 0.0
    draining: bool = False
    lanes: int = 0
    """Batches that it can hold."""
    slots: int = 0
    """Batches that run at once."""
    max_batch: int = 0
    models: tuple[int, ...] = ()
    batches: tuple[BatchState, ...] = ()
    """Of the lanes that have one."""
    batches_left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """A queue that has something."""

    model: str
    priority: Priority
    tenant: str
    waiting: int = 0
    """Requests that this router holds and that no lane has."""
    backlog: int = 0
    """Messages in the broker that no router has, as this one last heard."""
    oldest_ms: int = 0
    """When the oldest of `waiting` was accepted, in Unix time; 0 = none waits here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalState:
    """Counts since the router started."""

    tokens: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingState:
    """How quick the answers of one class were since the router started: counts by bucket, see BOUNDS_S."""

    priority: Priority
    first_token: tuple[int, ...] = ()
    """From acceptance to the first token."""
    inter_token: tuple[int, ...] = ()
    """From token to token, the mean of each request that made several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterState:
    """A router, its workers and its queues, at one moment."""

    router: str
    address: str = ""
    started_s: float = 0.0
    at_s: float = 0.0
    draining: bool = False
    held: int = 0
    models: tuple[ModelState, ...] = ()
    workers: tuple[WorkerState, ...] = ()
    queues: tuple[QueueState, ...] = ()
    """The longest first."""
    totals: TotalState = field(default_factory=TotalState)
    timings: tuple[TimingState, ...] = ()
    workers_left_out: int = 0
    queues_left_out: int = 0
