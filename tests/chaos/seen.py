"""What one client saw of its request: all that the checker knows besides the durable outcomes."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass, field

from headrace.contract.values import Outcome, OutcomeKind, TokenChunk
from tests.chaos.asked import Asked


@dataclass(slots=True, eq=False)
class Seen:
    """Written by the request's client alone. Times are `time.monotonic`."""

    asked: Asked
    accepted: bool = False
    """Whether the mesh promised an answer: `accepted`, an acknowledgement, or the word that the id is in use."""
    ids: array[int] = field(default_factory=lambda: array("I"))
    texts: list[str] = field(default_factory=list)
    arrived_s: array[float] = field(default_factory=lambda: array("d"))
    arrived_at: array[int] = field(default_factory=lambda: array("I"))
    """For each of `arrived_s`: the index after the chunk."""
    chunks: list[TokenChunk] = field(default_factory=list)
    """On NATS, where gaps and repeats are the consumer's to see: the chunks as they came."""
    finished: Outcome | None = None
    """The last event of the stream."""
    finishes: int = 0
    result: Outcome | None = None
    """The durable outcome, as a gateway or the broker gave it."""
    told: list[OutcomeKind] = field(default_factory=list)
    """What cancellations were answered."""
    faults: list[str] = field(default_factory=list)
    """Gaps and repeats in a gRPC stream."""
    broken: str = ""
    """Why a gRPC stream ended without an outcome, after it was accepted."""
    gateway: str = ""
    """Who held the stream."""
    notes: list[tuple[float, str]] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)
    ended_s: float = 0.0

    def note(self, what: str) -> None:
        self.notes.append((time.monotonic(), what))

    def accept(self, how: str) -> None:
        self.accepted = True
        self.note(f"accepted: {how}")

    def take(self, chunk: TokenChunk) -> None:
        """The next tokens of a gRPC stream."""
        if chunk.first_index != len(self.ids):
            self.faults.append(f"index {chunk.first_index} came where {len(self.ids)} was next")
        self._arrived(chunk)
        self.ids.extend(chunk.token_ids)
        self.texts.append(chunk.text)

    def hear(self, chunk: TokenChunk) -> None:
        """Tokens on NATS."""
        self._arrived(chunk)
        self.chunks.append(chunk)

    def _arrived(self, chunk: TokenChunk) -> None:
        self.arrived_s.append(time.monotonic())
        self.arrived_at.append(chunk.next_index)

    def finish(self, outcome: Outcome) -> None:
        self.finishes += 1
        self.finished = outcome
        self.note(f"finished: {brief(outcome)}")

    def fetched(self, outcome: Outcome) -> None:
        self.result = outcome
        self.note(f"result: {brief(outcome)}")

    def break_off(self, problem: str) -> None:
        self.broken = problem
        self.note(f"stream broke: {problem}")

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def known(self) -> Outcome | None:
        """How it ended, as far as its client knows."""
        return self.finished or self.result


def brief(outcome: Outcome) -> str:
    """An outcome in some words, without its content."""
    why = outcome.finish_reason.value if outcome.finish_reason else ""
    if outcome.failure is not None:
        why = f"{outcome.failure.code}: {outcome.failure.message}"
    usage = outcome.usage
    return f"{outcome.kind.value} ({why}), {usage.output_tokens} tokens, {usage.attempts} attempts"
