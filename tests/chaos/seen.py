"""What the clients of one request saw: all that the checker knows besides the durable outcomes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from headrace.contract.values import Outcome, OutcomeKind
from tests.chaos.arrivals import Arrivals
from tests.chaos.asked import Asked
from tests.chaos.heard import Heard
from tests.chaos.reading import Call, Reading


@dataclass(slots=True, eq=False)
class Seen:
    """Written by the request's clients alone. Times are `time.monotonic`."""

    asked: Asked
    accepted: bool = False
    """Whether the mesh promised an answer: `accepted`, an acknowledgement, or the word that the id is in use."""
    refused: str = ""
    """Why its client gave up before it was accepted: a refusal for good."""
    readings: list[Reading] = field(default_factory=list)
    """By gRPC: the first is the asking client's own."""
    heard: Heard | None = None
    """On NATS."""
    result: Outcome | None = None
    """The durable outcome, as a gateway or the broker gave it."""
    told: list[OutcomeKind] = field(default_factory=list)
    """What cancellations were answered."""
    acted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at the token at which its client acts, or at its end."""
    cancelled_s: float | None = None
    """When its client first cancelled or hung up."""
    usurped: bool = False
    """Whether something else was accepted under its id."""
    denied: str = ""
    """Who said that the very same was another request, when it was sent again."""
    notes: list[tuple[float, str]] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)
    first_asked_s: float = 0.0
    """When it was sent for the first time: its deadline counts from there."""
    known_s: float = 0.0
    """When its client first knew how it ended."""
    ended_s: float = 0.0

    def note(self, what: str) -> None:
        self.notes.append((time.monotonic(), what))

    def accept(self, how: str) -> None:
        self.accepted = True
        self.note(f"accepted: {how}")

    def refuse(self, why: str) -> None:
        self.refused = why
        self.note(f"refused for good: {why}")

    def reads(self, first: int = 0) -> Reading:
        """Its answer is read, from a token on."""
        reading = Reading(first=first)
        self.readings.append(reading)
        return reading

    def dials(self, reading: Reading, gateway: str, how: str = "asks") -> Call:
        """A call of `reading` begins."""
        self.note(f"{how} {gateway} from index {reading.next_index}")
        self.first_asked_s = self.first_asked_s or time.monotonic()
        call = Call(gateway=gateway)
        reading.calls.append(call)
        return call

    def breaks(self, call: Call, problem: str) -> None:
        """A call ended without an outcome, after it was answered."""
        call.problem = problem
        self.note(f"stream broke: {problem}")

    def cancels(self, how: str) -> None:
        self.cancelled_s = self.cancelled_s or time.monotonic()
        self.note(how)

    def tell(self, kind: OutcomeKind) -> None:
        self.told.append(kind)
        self.note(f"told that it is {kind.value}")

    def finish(self, outcome: Outcome) -> None:
        """The last event of a stream, by gRPC or on NATS, was read."""
        self._known()
        self.note(f"finished: {brief(outcome)}")

    def fetched(self, outcome: Outcome) -> None:
        self.result = outcome
        self._known()
        self.note(f"result: {brief(outcome)}")

    def _known(self) -> None:
        self.known_s = self.known_s or time.monotonic()

    @property
    def streams(self) -> list[Arrivals]:
        """The arrivals of each stream, by gRPC or on NATS."""
        found = [reading.arrivals for reading in self.readings]
        return found if self.heard is None else [*found, self.heard.arrivals]


def brief(outcome: Outcome) -> str:
    """An outcome in some words, without its content."""
    why = outcome.finish_reason.value if outcome.finish_reason else ""
    if outcome.failure is not None:
        why = f"{outcome.failure.code}: {outcome.failure.message}"
    usage = outcome.usage
    return f"{outcome.kind.value} ({why}), {usage.output_tokens} tokens, {usage.attempts} attempts"
