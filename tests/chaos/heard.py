"""One answer as a consumer on NATS puts it together.

Core NATS may lose an event, and a router that takes over without a gateway to ask begins again at some index. So the
rule of a consumer is: a chunk that follows what is there is added; one that begins lower replaces all from there on;
one that begins higher shows a gap, and waits until the events begin lower again or the durable outcome fills it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.contract.values import Outcome, TokenChunk
from tests.chaos.arrivals import Arrivals


@dataclass(slots=True, eq=False)
class Heard:
    """Written by its consumer alone. `pieces` are one answer at any time, up to the first gap."""

    pieces: list[TokenChunk] = field(default_factory=list)
    """What counts, in order and without a gap."""
    torn: set[int] = field(default_factory=set)
    """The first indices of pieces that another replaced from the middle: how much of their text stays is unknown."""
    chunks: list[TokenChunk] = field(default_factory=list)
    """All, as they came."""
    arrivals: Arrivals = field(default_factory=Arrivals)
    gaps: int = 0
    replaced: int = 0
    finished: Outcome | None = None

    @property
    def next_index(self) -> int:
        return self.pieces[-1].next_index if self.pieces else 0

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(token for piece in self.pieces for token in piece.token_ids)

    @property
    def text(self) -> str | None:
        """None where it cannot be told from the events."""
        return None if self.torn else "".join(piece.text for piece in self.pieces)

    @property
    def whole(self) -> bool:
        """Whether all tokens of the outcome that was heard are here."""
        return self.finished is not None and self.next_index == self.finished.usage.output_tokens

    def take(self, chunk: TokenChunk) -> None:
        self.arrivals.add(chunk.next_index)
        self.chunks.append(chunk)
        if chunk.first_index > self.next_index:
            self.gaps += 1
            return
        if chunk.first_index < self.next_index:
            self._cut(chunk.first_index)
        self.pieces.append(chunk)

    def _cut(self, at: int) -> None:
        self.replaced += 1
        while self.pieces and self.pieces[-1].first_index >= at:
            self.torn.discard(self.pieces.pop().first_index)
        if self.pieces and (last := self.pieces[-1]).next_index > at:
            kept = last.token_ids[: at - last.first_index]
            self.pieces[-1] = TokenChunk(first_index=last.first_index, token_ids=kept, text=last.text)
            self.torn.add(last.first_index)
