"""The small values that every process speaks of: priority, task, sampling, usage, finish reason, outcome kind."""

from __future__ import annotations

import enum
import sys
from array import array
from dataclasses import dataclass
from typing import TypeAlias

from headrace.contract.errors import HeadraceError


class Priority(enum.IntEnum):
    """How urgent a request is. Lower is more urgent: the value is the class that the scheduler orders by."""

    REALTIME = 0
    HIGH = 1
    NORMAL = 2
    BATCH = 3

    @property
    def label(self) -> str:
        """The word in a subject, a flag or a metric."""
        return self.name.lower()


class Task(enum.Enum):
    """What is asked of the model."""

    GENERATE = "generate"
    EMBED = "embed"
    TRANSLATE = "translate"


class FinishReason(enum.Enum):
    """Why a completed generation ended."""

    END = "end"
    """The model produced an end token."""
    STOP = "stop"
    """A stop string was produced; it is not part of the text."""
    LENGTH = "length"
    """max_tokens or the context length was reached."""


class OutcomeKind(enum.Enum):
    """How a request ended. Every accepted request has exactly one."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen. Equal values may share a batch: the engine has one setting per batch."""

    temperature: float = 0.0
    """0 is greedy; up to 2."""
    top_k: int = 0
    """Candidates kept, 0 = all. Ignored when greedy."""
    top_p: float = 1.0
    """Probability mass kept, in (0, 1]. Ignored when greedy."""
    repetition_penalty: float = 1.0
    """1 is none; in [0.5, 2]. After a resumption it sees only the tokens made since."""
    ignore_end: bool = False
    """End tokens are never chosen, so that exactly max_tokens come: for measurements."""
    beam_size: int = 1
    """Hypotheses of a translation that are followed at once. From 2 on the best comes as a whole."""

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0


GREEDY = Sampling()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a request took."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    queue_s: float = 0.0
    """From acceptance by the broker to the first assignment."""
    first_token_s: float = 0.0
    """From acceptance by the broker to the first token at the router; 0 where there was none."""
    total_s: float = 0.0
    """From acceptance by the broker to the outcome."""
    attempts: int = 0
    """Assignments to a worker; more than 1 means that an attempt was lost, failed or handed on."""
    resumptions: int = 0
    """How often the output went on from the tokens so far. A sampled continuation is a new draw, and penalties see only
    the tokens made since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error as it crosses the wire: `code` from the error tree, `message` for a person,
    `field` where input was at fault.
    """

    code: str
    message: str
    field: str = ""
    retry_after_s: float = 0.0

    @classmethod
    def of(cls, error: HeadraceError) -> Failure:
        """That of an error which says nothing of when to try again."""
        return cls(code=error.code, message=str(error), field=getattr(error, "field", ""))


_SAMPLED = frozenset(f"{flags:02x}" for flags in range(1, 256, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """W3C trace context as it crosses the hops: two header strings, unparsed."""

    traceparent: str = ""
    tracestate: str = ""

    @property
    def trace_id(self) -> str:
        """32 lower-case hex digits; empty where there is none."""
        return self.traceparent[3:35]

    @property
    def sampled(self) -> bool:
        """Whether the hop before records its spans."""
        return self.traceparent[53:55] in _SAMPLED


NO_TRACE = TraceContext()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenChunk:
    """Consecutive tokens of one request: `token_ids[0]` has the index `first_index` in its output."""

    first_index: int
    token_ids: tuple[int, ...]
    text: str
    """What these tokens completed: may be empty (half a character, or the beginning of a stop string)."""
    text_lengths: tuple[int, ...] = ()
    """Characters of `text` that each token completed. Empty: all of it is the last token's."""

    @property
    def next_index(self) -> int:
        return self.first_index + len(self.token_ids)

    @property
    def lengths(self) -> tuple[int, ...]:
        """`text_lengths`, spelt out."""
        return self.text_lengths or (*(0,) * (len(self.token_ids) - 1), len(self.text))

    def joined(self, later: TokenChunk) -> TokenChunk:
        """This chunk and the one that follows it, as one."""
        assert later.first_index == self.next_index, "chunks join only without a gap"
        return TokenChunk(
            first_index=self.first_index,
            token_ids=self.token_ids + later.token_ids,
            text=self.text + later.text,
            text_lengths=self.lengths + later.lengths,
        )

    def since(self, index: int) -> TokenChunk | None:
        """The part from the token `index` on; None where that is nothing."""
        skipped = index - self.first_index
        if skipped <= 0:
            return self
        if skipped >= len(self.token_ids):
            return None
        lengths = self.lengths
        return TokenChunk(
            first_index=index,
            token_ids=self.token_ids[skipped:],
            text=self.text[sum(lengths[:skipped]) :],
            text_lengths=lengths[skipped:],
        )

    def until(self, index: int) -> TokenChunk | None:
        """The part before the token `index`; None where that is nothing."""
        count = index - self.first_index
        if count <= 0:
            return None
        if count >= len(self.token_ids):
            return self
        lengths = self.lengths[:count]
        return TokenChunk(
            first_index=self.first_index,
            token_ids=self.token_ids[:count],
            text=self.text[: sum(lengths)],
            text_lengths=lengths,
        )


Vector: TypeAlias = bytes
"""The numbers of an embedding as 32-bit floats, little-endian: as the wire has them. Nobody on the way to the client
needs them as numbers, and making those would cost more than all else that is done to a short text.
"""


FLOAT_BYTES = 4
"""Of each number."""


def unpack_vector(vector: Vector) -> tuple[float, ...]:
    """The numbers."""
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return tuple(numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadReference:
    """Something too large for a message, in the object store: the object's name, its size and its SHA-256 as hex."""

    object: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePosition:
    """A place in the queue: `ahead` requests go first; `estimated_wait_s` is None while nothing is known."""

    ahead: int
    estimated_wait_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The promise that a request will be answered."""

    request_id: str
    position: QueuePosition
    model: str = ""
    """What will answer it as things are: the version behind an alias. "" where that was not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a request ended, and what it made."""

    request_id: str
    kind: OutcomeKind
    model: str
    usage: Usage
    finish_reason: FinishReason | None = None
    failure: Failure | None = None
    text: str = ""
    token_ids: tuple[int, ...] = ()
    text_lengths: tuple[int, ...] = ()
    """As in TokenChunk, for the whole output."""
    payload: PayloadReference | None = None
    """Where the whole outcome lies, if it is too large for a message: text and tokens are not here then."""
    vectors: tuple[Vector, ...] = ()
    """Of an embedding's texts, in their order."""
    earlier_models: tuple[str, ...] = ()
    """Versions that made the first tokens, where they were not served any more when the output went on; `model` made
    the last.
    """

    @property
    def embeddings(self) -> tuple[tuple[float, ...], ...]:
        """`vectors` as numbers."""
        return tuple(map(unpack_vector, self.vectors))

    @property
    def output(self) -> TokenChunk | None:
        """The whole output as one chunk; None where there is none."""
        if not self.token_ids:
            return None
        return TokenChunk(
            first_index=0, token_ids=self.token_ids, text=self.text, text_lengths=self.text_lengths
        )
