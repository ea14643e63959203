"""What this router counts for whoever looks on: outcomes, tokens, and how quick the answers of each class were."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from headrace.contract.state import BUCKETS, TimingState, TotalState, bucket_of
from headrace.contract.values import Outcome, OutcomeKind, Priority
from headrace.router.ledger import Record


def _buckets() -> list[list[int]]:
    return [[0] * BUCKETS for _ in Priority]


@dataclass(slots=True)
class Figures:
    """Counts since the start, written by the conductor alone. Per request two additions, and one for each delivery."""

    tokens: int = 0
    """Output tokens that were delivered."""
    outcomes: Counter[OutcomeKind] = field(default_factory=Counter)
    first_token: list[list[int]] = field(default_factory=_buckets)
    """By Priority and bucket."""
    inter_token: list[list[int]] = field(default_factory=_buckets)

    def first(self, record: Record) -> None:
        """Its first token has come, at this router or at one before it."""
        if record.first_token_s is not None:
            after_s = record.first_token_s - record.accepted_s
            self.first_token[record.request.priority][bucket_of(after_s)] += 1

    def ended(self, record: Record, outcome: Outcome) -> None:
        """A request has ended; one that made at least two tokens says how long each took."""
        self.outcomes[outcome.kind] += 1
        usage = outcome.usage
        if usage.output_tokens > 1 and usage.first_token_s:
            each_s = (usage.total_s - usage.first_token_s) / (usage.output_tokens - 1)
            self.inter_token[record.request.priority][bucket_of(each_s)] += 1

    def totals(self) -> TotalState:
        """The counts."""
        return TotalState(
            tokens=self.tokens,
            completed=self.outcomes[OutcomeKind.COMPLETED],
            failed=self.outcomes[OutcomeKind.FAILED],
            cancelled=self.outcomes[OutcomeKind.CANCELLED],
            expired=self.outcomes[OutcomeKind.EXPIRED],
            rejected=self.outcomes[OutcomeKind.REJECTED],
        )

    def timings(self) -> tuple[TimingState, ...]:
        """Of the classes that had any."""
        return tuple(
            TimingState(priority=priority, first_token=tuple(first), inter_token=tuple(inter))
            for priority, first, inter in zip(Priority, self.first_token, self.inter_token, strict=True)
            if any(first) or any(inter)
        )
