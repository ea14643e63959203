"""A held request and its states.

Waiting ──► Running ──► Settling ──► (gone)
   ▲  └───────│───────────▲
   └──────────┘ worker lost, failed or left: with the tokens so far
"""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.contract.values import Priority, Sampling, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """No lane has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """An assignment of it is on a lane."""

    assignment: int
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """Its outcome is being made durable, or it is being given back: nothing can change it any more."""


State = Waiting | Running | Settling
WAITING = Waiting()
SETTLING = Settling()


@dataclass(slots=True, kw_only=True, eq=False)
class Held:
    """A request between the pull and its outcome. Written by the Scheduler alone."""

    request_id: str
    queue: str
    model: str
    priority: Priority
    tenant: str
    sampling: Sampling
    prompt_tokens: int
    max_tokens: int
    arrived_s: float
    deadline_s: float | None
    generated: int
    """Tokens made so far: the index of the next one."""
    level: int
    """Its effective class: its priority at first, less with age. Written by the WaitingList."""
    attempts: int = 0
    """Assignments so far."""
    static: str = ""
    """What tells its static prompt from others; "" = it has none."""
    static_tokens: int = 0
    asked: str = ""
    """The alias that was asked for; "" = its model, and nothing else will do."""
    losses: int = 0
    """Attempts that ended with a lost worker or a failed engine: past the limit, the request is given up."""
    moves: int = 0
    """How often it went on in another batch in the midst of its output; see `regrouping`."""
    state: State = field(default=WAITING)
    work_s: float = 0.0
    """Seconds that a lane of the fastest worker would take for it alone, as expected when it began to wait."""
    charged: float | None = None
    """What its tenant was charged for it; None before it ran."""
    task: Task = Task.GENERATE
    texts: int = 0
    """To embed: how many there are."""
    embedded: bool = False
    """Whether the vectors of all its texts were made."""

    @property
    def kind(self) -> tuple[Sampling, str]:
        """Only requests of equal kind share a batch: the engine has one sampling and one static prompt for it."""
        return self.sampling, self.static

    @property
    def context(self) -> int:
        """Tokens that a lane has to prefill: the prompt and what was made so far; of texts, those of one on average."""
        if self.texts:
            return -(-self.prompt_tokens // self.texts)
        return self.prompt_tokens + self.generated

    @property
    def complete(self) -> bool:
        """Whether it has all the tokens that it asked for."""
        return self.generated >= self.max_tokens
