"""A request of a load, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from headrace.contract.values import OutcomeKind, Priority


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks for. Its true output is known to the virtual engine alone."""

    index: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    max_tokens: int
    """What the client allows: at least `output_tokens`."""
    priority: Priority
    tenant: str


class Life:
    """What became of a request. The engine writes the times, the policy `outcome`; inf = it never came to that."""

    __slots__ = ("asked", "first_s", "last_s", "made", "outcome", "outcomes", "start_s")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.start_s = inf
        self.first_s = inf
        self.last_s = inf
        self.made = 0
        """Tokens that the policy was told of."""
        self.outcome: OutcomeKind | None = None
        self.outcomes = 0
        """How often it was told to have ended: once, or the policy has lost or repeated it."""

    def __repr__(self) -> str:
        return f"Life({self.asked.index}, {self.outcome}, {self.made}/{self.asked.output_tokens})"

    def end(self, kind: OutcomeKind) -> None:
        self.outcome = kind
        self.outcomes += 1
