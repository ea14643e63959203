"""What a lane's thread does with a batch of texts to embed. Any thread can run it; no asyncio here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil

import structlog

from headrace.contract.errors import EngineFailed
from headrace.contract.values import Vector
from headrace.worker.decode import told
from headrace.worker.encoder import Encoder
from headrace.worker.gate import Turn

log = structlog.get_logger(__name__)

ROUNDING = 1e-6


@dataclass(slots=True, kw_only=True)
class TextSlot:
    """An entry as the lane's thread sees it."""

    index: int
    """Its place in the batch."""
    texts: Sequence[Sequence[int]]
    halted: bool = False
    """Whether nobody wants its vectors any more. Written by the event loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """The vectors of all texts of an entry."""

    index: int
    vectors: tuple[Vector, ...]


@dataclass(slots=True, kw_only=True)
class Done:
    """What was computed so far. Written by the lane's thread."""

    texts: int = 0
    tokens: int = 0
    """Of these texts."""
    padding: int = 0
    """Places beside them that held nothing, as another text of the piece was longer."""

    def piece(self, lengths: Sequence[int]) -> None:
        """One is through, of texts of so many tokens."""
        tokens = sum(lengths)
        self.texts += len(lengths)
        self.tokens += tokens
        self.padding += max(lengths) * len(lengths) - tokens


Place = tuple[int, int]
"""(slot, text)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """The work of one batch: the texts of all its entries, sorted by length and computed in pieces of near length.

    Between two pieces it waits where it is not this batch's turn, and leaves out what nobody wants any more.
    """

    encoder: Encoder
    slots: Sequence[TextSlot]
    turn: Turn
    piece_tokens: int
    """Of a piece: beyond it nothing is gained, and a pause or a cancellation waits for longer."""
    done: Done = field(default_factory=Done)

    def run(self, emit: Callable[[Embedded], None]) -> EngineFailed | None:
        """Embeds all, gives each entry's vectors to `emit` when the last is there, and returns what the engine failed
        with, if it did. Blocks the lane's thread. Nothing is raised: a lane outlives what its batches do.
        """
        try:
            self.turn.wait()
            self._run(emit)
        except Exception as error:
            log.warning("engine.failed", entries=len(self.slots), problem=told(error), exc_info=True)
            return EngineFailed(told(error))
        finally:
            self.turn.leave()
        return None

    def _run(self, emit: Callable[[Embedded], None]) -> None:
        found: list[list[Vector]] = [[b""] * len(slot.texts) for slot in self.slots]
        left = [len(slot.texts) for slot in self.slots]
        for number, piece in enumerate(self._pieces()):
            if number and not self.turn.goes:
                self.turn.wait()
            wanted = [(slot, text) for slot, text in piece if not self.slots[slot].halted]
            if not wanted:
                continue
            texts = [self.slots[slot].texts[text] for slot, text in wanted]
            vectors = self.encoder.embed(texts)
            self.done.piece([len(text) for text in texts])
            for (slot, text), vector in zip(wanted, vectors, strict=True):
                found[slot][text] = vector
                left[slot] -= 1
                if not left[slot]:
                    emit(Embedded(index=self.slots[slot].index, vectors=tuple(found[slot])))

    def _pieces(self) -> Iterator[Sequence[Place]]:
        """As few as there can be, of about equally many tokens: each costs something, however small it is. The longest
        texts come first: what takes the most memory takes it once.
        """
        lengths = {
            (s, t): len(text) for s, slot in enumerate(self.slots) for t, text in enumerate(slot.texts)
        }
        total = sum(lengths.values())
        share = total / max(1, ceil(total / self.piece_tokens))
        piece: list[Place] = []
        done = cut = 0
        for place in sorted(lengths, key=lengths.__getitem__, reverse=True):
            piece.append(place)
            done += lengths[place]
            if done >= (cut + 1) * share - ROUNDING:
                yield piece
                piece, cut = [], int((done + ROUNDING) // share)
        if piece:
            yield piece
