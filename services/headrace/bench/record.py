"""What the consumer of one request saw, and what is wrong with the stream."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.contract.values import Outcome, OutcomeKind

GAP = "STREAM_GAP"
"""A chunk did not begin where the one before it ended."""
USAGE = "WRONG_USAGE"
"""The usage says other numbers of tokens than were sent and received."""
LENGTH = "WRONG_LENGTH"
"""Not as many tokens as were asked for."""
CHECKS = frozenset({GAP, USAGE, LENGTH})
"""What the driver itself finds wrong with a stream that ended well."""
NOT_SENT = "NOT_SENT"
"""As many were under way already as the driver may have."""


@dataclass(slots=True, kw_only=True)
class Record:
    """One request. Times are seconds of the machine's monotonic clock, which its processes share.

    Writer: the one who reads its stream.
    """

    index: int
    """Its place in the load."""
    sent_s: float
    first_s: float = 0.0
    """When the first chunk of tokens came; 0 where none did."""
    ended_s: float = 0.0
    tokens: int = 0
    chunks: int = 0
    gaps: list[tuple[float, int]] = field(default_factory=list)
    """For each chunk after the first: the time since the chunk before it, divided by its tokens, and how many those
    are. So a chunk of four tokens after 40 ms counts as four gaps of 10 ms; the tokens of the first chunk have none.
    """
    error: str = ""
    """The code of what it failed with; empty where it is as it should be."""
    last_s: float = 0.0
    """When the latest chunk came."""

    def take(self, first_index: int, count: int, now_s: float) -> None:
        """`count` tokens came, the first of which says that its index is `first_index`."""
        if first_index != self.tokens:
            self.error = self.error or GAP
        if not count:
            return
        if self.first_s:
            self.gaps.append(((now_s - self.last_s) / count, count))
        else:
            self.first_s = now_s
        self.last_s = now_s
        self.tokens += count
        self.chunks += 1

    def finish(self, outcome: Outcome, now_s: float, *, prompt_tokens: int, output_tokens: int) -> None:
        """It ended, and should have had so many tokens."""
        self.ended_s = now_s
        if outcome.kind is not OutcomeKind.COMPLETED:
            self.error = self.error or outcome.kind.value.upper()
        elif (outcome.usage.prompt_tokens, outcome.usage.output_tokens) != (prompt_tokens, self.tokens):
            self.error = self.error or USAGE
        elif self.tokens != output_tokens:
            self.error = self.error or LENGTH

    def fail(self, code: str, now_s: float) -> None:
        """It ended with an error."""
        self.ended_s = now_s
        self.error = self.error or code
