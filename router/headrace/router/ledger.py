"""The records of the requests that this router holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from nats.aio.msg import Msg
from opentelemetry.trace import INVALID_SPAN, Span

from headrace.contract.requests import Request
from headrace.contract.values import NO_TRACE, Outcome, TokenChunk, TraceContext, Usage


@dataclass(slots=True, kw_only=True, eq=False)
class Record:
    """What the router knows of a held request. Written by the conductor, after intake has made it."""

    request: Request
    message: Msg
    """Replaced when the broker delivers it again: the newest delivery is the one to acknowledge."""
    chosen_id: bool
    """Whether the producer chose the id: only such an id can have been used before."""
    sequence: int
    """Of the message in its stream."""
    accepted_s: float
    """Unix time at which the broker took it."""
    as_json: bool
    """Whether the producer speaks JSON: its events and its outcome do, too."""
    prompt: tuple[int, ...] = ()
    max_tokens: int = 0
    tokens: list[int] = field(default_factory=list)
    """The output so far."""
    text: list[str] = field(default_factory=list)
    """Its text, in pieces: joined once, at the end."""
    attempts: int = 0
    assigned_s: float | None = None
    """Unix time of the first assignment."""
    first_token_s: float | None = None
    waiting_since_s: float = 0.0
    """Unix time since which it has waited for a lane."""
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
    def prepared(self) -> bool:
        """Whether intake is through with it."""
        return self.max_tokens > 0

    def when_settled(self) -> asyncio.Future[Outcome]:
        """Done when the outcome is durable; cancelled when the request goes back to its queue."""
        if self.settled is None:
            self.settled = asyncio.get_running_loop().create_future()
        return self.settled

    def keep(self, chunk: TokenChunk) -> None:
        """Adds the next tokens."""
        if self.first_token_s is None:
            self.first_token_s = time.time()
        self.tokens.extend(chunk.token_ids)
        if chunk.text:
            self.text.append(chunk.text)

    def after(self, index: int, text_length: int) -> TokenChunk | None:
        """What was made from token `index` and character `text_length` on; None where that is nothing."""
        if index >= len(self.tokens):
            return None
        return TokenChunk(
            first_index=index,
            token_ids=tuple(self.tokens[index:]),
            text="".join(self.text)[text_length:],
        )

    def usage(self, now_s: float) -> Usage:
        """What it has taken by the Unix time `now_s`."""
        return Usage(
            prompt_tokens=len(self.prompt),
            output_tokens=len(self.tokens),
            queue_s=max(0.0, (self.assigned_s or now_s) - self.accepted_s),
            first_token_s=max(0.0, self.first_token_s - self.accepted_s) if self.first_token_s else 0.0,
            total_s=max(0.0, now_s - self.accepted_s),
            attempts=self.attempts,
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
