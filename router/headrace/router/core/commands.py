"""What the scheduler wants done. The shell does it, in order, and decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.contract.values import (
    Failure,
    FinishReason,
    OutcomeKind,
    Priority,
    Sampling,
    TokenChunk,
    Vector,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """Ask the broker for `count` more messages of a queue."""

    queue: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One attempt of one request; `number` is never used again and fences late frames."""

    number: int
    request_id: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Run a batch on a free lane, as soon as a slot is free. Its entries have equal sampling."""

    worker: str
    lane: int
    batch: int
    model: str
    sampling: Sampling
    assignments: tuple[Assignment, ...]
    static_tokens: int = 0
    """The first so many tokens of all its prompts are a static prompt."""
    kept: bool = False
    """Whether the worker has computed that before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Stop a batch at its next step: its lane keeps what it has computed, and its slot is free."""

    worker: str
    batch: int
    by: Priority | None = field(default=None, compare=False)
    """The effective class of what goes before it, for those who ask why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Go on with a paused batch."""

    worker: str
    batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End an assignment within one step; nobody waits for its frames any more."""

    worker: str
    assignment: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """Keep these tokens and send them to the consumer: they are the next ones of the request."""

    request_id: str
    tokens: TokenChunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Make this outcome durable, tell the consumer, acknowledge; then say Settled. Once per request."""

    request_id: str
    kind: OutcomeKind
    finish_reason: FinishReason | None = None
    failure: Failure | None = None
    dead: bool = False
    """Keep a dead letter as well."""
    vectors: tuple[Vector, ...] = ()
    """What an embedding made."""
    losses: int = 0
    """Lost or failed attempts of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeued:
    """A running request waits again, with its tokens so far: its worker was lost, failed or left."""

    request_id: str
    reason: str
    code: str = field(default="", compare=False)
    """Of the failure that its worker told, if it told one: `reason` is its text then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regrouped:
    """A running request leaves its batch, and goes on in the one that starts next."""

    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Give a request back to its queue for another router, with no outcome; then say Settled."""

    request_id: str
    losses: int = 0
    """Lost or failed attempts so far: the next router counts on from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """Another router has taken a request over: forget it here at once, with no outcome and no word to the broker."""

    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeAt:
    """Say Woke at this time. Replaces the WakeAt before it, if that one was not answered yet."""

    at_s: float


Command = (
    Pull | Start | Pause | Resume | Stop | Regrouped | Deliver | Settle | Requeued | Release | LetGo | WakeAt
)
