"""One answer as a client reads it from gateways."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass, field

from headrace.contract.values import Outcome, TokenChunk
from tests.chaos.arrivals import Arrivals


@dataclass(slots=True, kw_only=True)
class Call:
    """One call of a reading. Times are `time.monotonic`."""

    gateway: str
    began_s: float = field(default_factory=time.monotonic)
    ended_s: float = float("inf")
    answered: bool = False
    """Whether anything came."""
    problem: str = ""
    """Why it ended without an outcome, after it was answered."""


@dataclass(slots=True, eq=False)
class Reading:
    """Over one call, or several where the client attaches again: then each goes on where the last was lost.

    Written by its reader alone.
    """

    first: int = 0
    """The index from which it was asked for."""
    calls: list[Call] = field(default_factory=list)
    ids: array[int] = field(default_factory=lambda: array("I"))
    texts: list[str] = field(default_factory=list)
    arrivals: Arrivals = field(default_factory=Arrivals)
    finished: Outcome | None = None
    """The last event."""
    faults: list[str] = field(default_factory=list)
    """Gaps, repeats, and whatever came after the end."""

    @property
    def next_index(self) -> int:
        return self.first + len(self.ids)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def take(self, chunk: TokenChunk) -> None:
        """The next tokens. Each index comes once, in order."""
        if self.finished is not None:
            self.faults.append(f"tokens from index {chunk.first_index} on came after the end")
        if chunk.first_index != self.next_index:
            self.faults.append(f"index {chunk.first_index} came where {self.next_index} was next")
        self.arrivals.add(chunk.next_index)
        self.ids.extend(chunk.token_ids)
        self.texts.append(chunk.text)

    def finish(self, outcome: Outcome) -> None:
        if self.finished is not None:
            self.faults.append("it ended twice")
        self.finished = outcome
