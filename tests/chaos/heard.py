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
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

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
            self.pieces.pop()
        if self.pieces and self.pieces[-1].next_index > at:
            self.pieces[-1] = _until(self.pieces[-1], at)


def _until(chunk: TokenChunk, index: int) -> TokenChunk:
    """The part before the token `index`."""
    kept = index - chunk.first_index
    lengths = chunk.lengths[:kept]
    return TokenChunk(
        first_index=chunk.first_index,
        token_ids=chunk.token_ids[:kept],
        text=chunk.text[: sum(lengths)],
        text_lengths=lengths,
    )
