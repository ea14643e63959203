"""The records of the requests that this router holds."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from nats.aio.msg import Msg
from opentelemetry.trace import INVALID_SPAN, Span

from headrace.contract.claims import HandOver
from headrace.contract.fingerprint import fingerprint, is_fingerprint
from headrace.contract.requests import Request
from headrace.contract.subjects import HEADER_FINGERPRINT
from headrace.contract.values import (
    NO_TRACE,
    Failure,
    FinishReason,
    Outcome,
    OutcomeKind,
    QueuePosition,
    TokenChunk,
    TraceContext,
    Usage,
)


class Hold(enum.Enum):
    """Whose a request is, as far as this router knows."""

    CLAIMING = "claiming"
    """The broker has delivered it again, and another router may be at work on it."""
    OWNED = "owned"
    """Ours: who asks is told so."""
    RELEASED = "released"
    """On its way back to its queue."""
    TAKEN = "taken"
    """Another router has said that it goes on with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowOf:
    """The request that a copy is of, and the version that is to answer the copy."""

    tenant: str
    request_id: str
    model: str


@dataclass(slots=True, kw_only=True, eq=False)
class Record:
    """What the router knows of a held request. Written by the conductor, after intake has made it."""

    request: Request
    message: Msg
    """Replaced when the broker delivers it again: the newest delivery is the one to acknowledge."""
    chosen_id: bool
    """Whether the producer chose the id: only such an id can have been used before."""
    used_again: bool = False
    """Whether another message may have its id, from longer ago than the broker looks back."""
    sequence: int
    """Of the message in its stream."""
    accepted_s: float
    """Unix time at which the broker took it."""
    as_json: bool
    """Whether the producer speaks JSON: its events and its outcome do, too."""
    complete: bool = True
    """Whether `request` holds all of it: not where it refers to an object that was not read yet."""
    hold: Hold = Hold.CLAIMING
    leased_s: float = 0.0
    """When the broker gave it at the earliest, or last heard that it is being worked on; by `time.monotonic`."""
    doubt: asyncio.Future[None] | None = None
    """The question whose it is, while that is open."""
    followers: set[str] = field(default_factory=set)
    """Gateways that get its tokens: the one that it names, and those that told of a client of theirs."""
    place: QueuePosition | None = None
    """What its followers were told of its place in the queue; None where it does not wait."""
    estimate: tuple[float, float] | None = None
    """What its followers were told first of its wait: at which Unix time, and how many seconds from then."""
    model: str = ""
    """The version that answers it, once that is resolved: the one behind an alias, or the model that it asks for."""
    shadow_of: ShadowOf | None = None
    """Where it is a copy for a shadow: what it makes goes nowhere."""
    earlier_models: tuple[str, ...] = ()
    """Versions that made the first tokens and are not served any more."""
    static_tokens: int = 0
    """The first so many tokens of the prompt are a static prompt."""
    first_here: int = 0
    """The index of the first token that this router has made, or will."""
    prompt: tuple[int, ...] = ()
    texts: tuple[tuple[int, ...], ...] = ()
    """The tokens of what is to be embedded."""
    target_prefix: tuple[int, ...] = ()
    """What a translation is made to begin with."""
    max_tokens: int = 0
    tokens: list[int] = field(default_factory=list)
    """The output so far."""
    text: list[str] = field(default_factory=list)
    """Its text, in pieces: joined once, at the end."""
    text_lengths: list[int] = field(default_factory=list)
    """Characters of the text that each token completed."""
    attempts: int = 0
    losses: int = 0
    """Attempts that were lost or failed, as far as they count here: at earlier routers, and at this one once it gives
    the request back."""
    resumptions: int = 0
    """Assignments that went on from tokens made before."""
    releases: int = 0
    """Deliveries of it that ended with a router giving it back."""
    bounces: int = 0
    """How often in a row it came straight back here when it was given back."""
    assigned_s: float | None = None
    """Unix time of the first assignment."""
    first_token_s: float | None = None
    waiting_since_s: float = 0.0
    """Unix time since which it has waited for a lane."""
    worker: str = ""
    """The name of the one that has it, or had it last."""
    span: Span = INVALID_SPAN
    """The router's hold on it."""
    trace: TraceContext = NO_TRACE
    """What the hops after this one are told."""
    settled: asyncio.Future[Outcome] | None = None
    """For those who wait for the outcome; made by the first of them."""

    @property
    def id(self) -> str:
        return self.request.id

    @property
    def tenant(self) -> str:
        return self.request.tenant

    @property
    def prompt_tokens(self) -> int:
        """Of the prompt, or of all texts together."""
        return len(self.prompt) + sum(map(len, self.texts))

    @property
    def prepared(self) -> bool:
        """Whether intake is through with it."""
        return self.max_tokens > 0

    @property
    def version(self) -> str:
        """What an alias came to; "" where none was asked for."""
        return self.model if self.model != self.request.model else ""

    @property
    def fingerprint(self) -> str:
        """What it asks for; "" where that is not known yet."""
        if self.complete:
            return fingerprint(self.request)
        told = (self.message.headers or {}).get(HEADER_FINGERPRINT, "")
        return told if is_fingerprint(told) else ""

    @property
    def deliveries(self) -> int:
        """How often the broker delivered it, without those deliveries that a router ended in order."""
        return self.message.metadata.num_delivered - self.releases

    def when_settled(self) -> asyncio.Future[Outcome]:
        """Done when the outcome is durable; cancelled when the request goes back to its queue."""
        if self.settled is None:
            self.settled = asyncio.get_running_loop().create_future()
        return self.settled

    # The output.

    @property
    def next_index(self) -> int:
        """Tokens made so far: the index of the next one."""
        return len(self.tokens)

    @property
    def output(self) -> TokenChunk | None:
        """All that was made, as one chunk; None where that is nothing."""
        if not self.tokens:
            return None
        return TokenChunk(
            first_index=0,
            token_ids=tuple(self.tokens),
            text="".join(self.text),
            text_lengths=tuple(self.text_lengths),
        )

    def since(self, index: int) -> TokenChunk | None:
        """What was made from token `index` on; None where that is nothing."""
        output = self.output if index < self.next_index else None
        return None if output is None else output.since(index)

    def keep(self, chunk: TokenChunk) -> None:
        """Adds the next tokens."""
        if self.first_token_s is None:
            self.first_token_s = time.time()
        self._append(chunk)

    def go_on_from(self, output: TokenChunk) -> None:
        """Begins with what was made elsewhere, from index 0 on."""
        self.tokens, self.text, self.text_lengths = [], [], []
        self._append(output)

    def _append(self, chunk: TokenChunk) -> None:
        assert chunk.first_index == self.next_index, "no gap and no repeat"
        self.tokens.extend(chunk.token_ids)
        self.text_lengths.extend(chunk.lengths)
        if chunk.text:
            self.text.append(chunk.text)

    # From router to router.

    def take_over(self, handed: HandOver) -> None:
        """Goes on from where another router gave it back."""
        if handed.output is not None:
            self.go_on_from(handed.output)
        self.model, self.earlier_models = handed.model, handed.earlier_models
        self.attempts, self.losses = handed.attempts, handed.losses
        self.resumptions, self.releases = handed.resumptions, handed.releases
        self.followers.update(handed.gateways)
        if handed.queue_s is not None:
            self.assigned_s = self.accepted_s + handed.queue_s
        if handed.first_token_s is not None:
            self.first_token_s = self.accepted_s + handed.first_token_s

    def hand_over(self) -> HandOver:
        """What the next router needs to go on."""
        return HandOver(
            output=self.output,
            attempts=self.attempts,
            losses=self.losses,
            resumptions=self.resumptions,
            queue_s=self._after_s(self.assigned_s),
            first_token_s=self._after_s(self.first_token_s),
            releases=self.releases + 1,
            gateways=tuple(sorted(self.followers)),
            model=self.version if self.tokens else "",
            earlier_models=self.earlier_models,
        )

    def _after_s(self, unix_s: float | None) -> float | None:
        return None if unix_s is None else max(0.0, unix_s - self.accepted_s)

    def usage(self, now_s: float) -> Usage:
        """What it has taken by the Unix time `now_s`."""
        return Usage(
            prompt_tokens=self.prompt_tokens,
            output_tokens=len(self.tokens),
            queue_s=max(0.0, (self.assigned_s or now_s) - self.accepted_s),
            first_token_s=self._after_s(self.first_token_s) or 0.0,
            total_s=max(0.0, now_s - self.accepted_s),
            attempts=self.attempts,
            resumptions=self.resumptions,
        )

    def outcome(
        self,
        kind: OutcomeKind,
        now_s: float,
        *,
        finish_reason: FinishReason | None = None,
        failure: Failure | None = None,
    ) -> Outcome:
        """How it ended at the Unix time `now_s`, with all that was made."""
        return Outcome(
            request_id=self.id,
            kind=kind,
            model=self.model or self.request.model,
            earlier_models=self.earlier_models,
            usage=self.usage(now_s),
            finish_reason=finish_reason,
            failure=failure,
            text="".join(self.text),
            token_ids=tuple(self.tokens),
            text_lengths=tuple(self.text_lengths),
        )


class Ledger:
    """All records, by request id. As many as the core's demand lets in: `router.max_held`."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(list(self._records.values()))

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._records

    def get(self, request_id: str) -> Record | None:
        return self._records.get(request_id)

    def find(self, tenant: str, request_id: str) -> Record | None:
        """The record of a request, if that tenant's is held."""
        record = self._records.get(request_id)
        return record if record is not None and record.tenant == tenant else None

    def __getitem__(self, request_id: str) -> Record:
        return self._records[request_id]

    def add(self, record: Record) -> None:
        assert record.id not in self._records, "one record per request"
        self._records[record.id] = record
        self._empty.clear()

    def remove(self, request_id: str, outcome: Outcome | None) -> None:
        """Takes a record out; `outcome` is what those who wait for it are told, None that it has none here."""
        record = self._records.pop(request_id, None)
        if record is not None and record.settled is not None and not record.settled.done():
            if outcome is None:
                record.settled.cancel()
            else:
                record.settled.set_result(outcome)
        if not self._records:
            self._empty.set()

    async def empty_within(self, limit_s: float) -> bool:
        """Waits until nothing is held, for `limit_s` at most; whether that is so."""
        try:
            await asyncio.wait_for(self._empty.wait(), limit_s)
        except TimeoutError:
            return False
        return True
