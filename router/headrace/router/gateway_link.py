"""One gateway's open stream: what its clients hold, and what waits to be sent to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import structlog

from headrace.contract.deliver import HeldStream, Recall
from headrace.contract.values import Outcome, QueuePosition, TokenChunk
from headrace.router.ledger import Record
from headrace.router.outbox import Outbox

log = structlog.get_logger(__name__)

MAX_VECTORS = 1024 * 1024
"""Bytes of an outcome's vectors that go to a gateway with it."""

MAX_HELD = 100_000
"""Streams that a gateway told of and that nobody runs here, kept per gateway; when full, the one told first is
forgotten: its gateway is asked when it matters."""


@dataclass(slots=True, eq=False)
class GatewayLink:
    """What is said on one stream.

    Invariant: `in_step` are the requests whose deliveries on this stream have had no gap, so that the next chunk
    follows what the gateway has. `held` are those that it told of, until they are in step or over; none is in both.
    """

    gateway_id: str
    held: dict[str, HeldStream] = field(default_factory=dict)
    in_step: set[str] = field(default_factory=set)
    outbox: Outbox = field(default_factory=Outbox)
    recalls: dict[str, asyncio.Future[HeldStream | None]] = field(default_factory=dict)
    """Questions that are open."""

    # What the gateway says.

    def told(self, streams: Iterable[HeldStream]) -> None:
        """Its clients hold these."""
        for stream in streams:
            request_id = stream.request_id
            if request_id in self.in_step:  # another client of it wants an earlier part
                self.in_step.discard(request_id)
                self.outbox.forget_tokens(request_id)
            self.held.pop(request_id, None)
            self.held[request_id] = stream
            if len(self.held) > MAX_HELD:
                del self.held[next(iter(self.held))]
            self._answered(request_id, stream)

    def left(self, request_ids: Iterable[str]) -> None:
        """None of its clients waits for these."""
        for request_id in request_ids:
            self.forget(request_id)
            self._answered(request_id, None)

    def _answered(self, request_id: str, stream: HeldStream | None) -> None:
        asked = self.recalls.pop(request_id, None)
        if asked is not None and not asked.done():
            asked.set_result(stream)

    # What it is told.

    async def recall(self, request_id: str, tenant: str) -> HeldStream | None:
        """Asks what its clients have of a request; None where none waits for it. Raises ConnectionResetError where the
        stream breaks before the answer.
        """
        asked = self.recalls.get(request_id)
        if asked is None:
            asked = self.recalls[request_id] = asyncio.get_running_loop().create_future()
            self.outbox.recall(Recall(request_id=request_id, tenant=tenant))
        return await asyncio.shield(asked)

    def broken(self) -> None:
        """The stream is no more."""
        for asked in self.recalls.values():
            if not asked.done():
                asked.set_exception(ConnectionResetError("the gateway left"))
                asked.exception()  # whoever still waits is told; nobody need be
        self.recalls.clear()

    def begin(self, request_id: str) -> None:
        """No client has anything of this request yet: its tokens can come from index 0 on."""
        if request_id not in self.held:
            self.in_step.add(request_id)

    def greet(self, record: Record, place: QueuePosition) -> None:
        """Lets a gateway that told of a request, and has nothing of it, know that it is here: it is told the place in
        the queue, unless there is more to send.
        """
        had = self.held.get(record.id)
        if had is not None and had.tenant == record.tenant and not had.token_ids:
            self.outbox.queued(record.id, place)

    def queued(self, record: Record, place: QueuePosition) -> None:
        """Tells a new place in the queue, where there is nothing else to send."""
        if record.id in self.in_step:
            self.outbox.queued(record.id, place)
        else:
            self.greet(record, place)

    def bring_in_step(self, record: Record) -> None:
        """Sends what the gateway misses of a request, if it told of it and can go on from there."""
        had = self.held.get(record.id)
        if had is None or had.tenant != record.tenant or had.next_index > record.next_index:
            return  # what is ahead of us here is compared when we are that far
        del self.held[record.id]
        if not goes_on(record.tokens, had):
            # Made otherwise here, by chance or by another machine: two halves of different answers are no answer.
            log.warning("gateway.other_tokens", gateway=self.gateway_id, request_id=record.id)
            return
        self.in_step.add(record.id)
        if (missed := record.since(had.next_index)) is not None:
            self.outbox.tokens(record.id, missed, record.version)

    def tokens(self, record: Record, chunk: TokenChunk) -> None:
        """Sends tokens, which `record` has by now, if they follow what the gateway has."""
        if record.id in self.in_step:
            first = chunk.first_index == record.first_here
            self.outbox.tokens(record.id, chunk, record.version if first else "")
        elif record.id in self.held:
            self.bring_in_step(record)

    def finished(self, outcome: Outcome, whole: TokenChunk | None) -> None:
        """Sends the end of a request, whose output was `whole`, after what the gateway misses of that."""
        had = self.held.pop(outcome.request_id, None)
        if had is not None and whole is not None and goes_on(whole.token_ids, had):
            self.outbox.forget_tokens(outcome.request_id)
            if (missed := whole.since(had.next_index)) is not None:
                self.outbox.tokens(outcome.request_id, missed)
        self.in_step.discard(outcome.request_id)
        self.outbox.finished(outcome.request_id, _deliverable(outcome))

    def forget(self, request_id: str) -> None:
        """Sends nothing more of a request."""
        self.held.pop(request_id, None)
        self.in_step.discard(request_id)
        self.outbox.forget(request_id)


def _deliverable(outcome: Outcome) -> Outcome:
    """Without vectors where they are too many for a message that others wait for: the gateway has them from the
    durable outcome then.
    """
    if sum(map(len, outcome.vectors)) <= MAX_VECTORS:
        return outcome
    return replace(outcome, vectors=())


def goes_on(token_ids: list[int] | tuple[int, ...], had: HeldStream) -> bool:
    """Whether a client that has `had` has a part of this output, as far as both are known."""
    ours = token_ids[had.first_index : had.next_index]
    return had.next_index <= len(token_ids) and tuple(ours) == had.token_ids
