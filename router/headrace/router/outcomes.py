"""How a request ends: its outcome becomes durable, the consumer is told, the message is acknowledged. In that order.

A crash before the result is stored: the broker delivers the request again, and it goes on. After it, before the
acknowledgement: it is delivered again, and answered from the result. The stream takes one message per subject, so two
routers that both end a request cannot both store an outcome: the second finds the first's, and that one counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from headrace.contract.errors import (
    DeadlinePassed,
    DuplicateRequest,
    HeadraceError,
    MalformedMessage,
    TooManyAttempts,
)
from headrace.contract.queue_wire import decode_result, encode_result
from headrace.contract.subjects import (
    CONTENT_TYPE_JSON,
    CONTENT_TYPE_PROTOBUF,
    HEADER_CONTENT_TYPE,
    HEADER_FINGERPRINT,
    HEADER_REQUEST_ID,
    RESULTS_STREAM,
    result_subject,
)
from headrace.contract.values import Failure, Outcome, OutcomeKind, PayloadReference
from headrace.router.burials import Burials, letter_of
from headrace.router.delivery import Delivery
from headrace.router.ledger import Ledger, Record
from headrace.router.metrics import RouterMetrics
from headrace.router.pulls import EXPIRES_S
from headrace.router.quietly import quietly
from headrace.router.references import References
from headrace.router.spans import RouterSpans
from headrace.router.storing import ATTEMPT_S, Storing
from headrace.runtime import trace_names as names
from headrace.runtime.backoff import Backoff
from headrace.runtime.nats_size import message_size
from headrace.runtime.propagation import inject

log = structlog.get_logger(__name__)

READ_RETRY_S = (0.1, 2.0)
"""The first and the longest wait between attempts to read the outcome that is there already."""
MAX_PUT_OFF_S = 60.0
"""The longest delay of a message whose id another one has that still runs. Doubled up to it, so that a request which
runs for a quarter of an hour costs few deliveries: too many would look like a request that kills routers."""
FIRST_DELAY_S, MAX_DELAY_S = 0.1, EXPIRES_S
"""Delays of a request that keeps coming back: the first, doubled each time up to what an open pull lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Durable:
    """An outcome that is stored."""

    outcome: Outcome
    fingerprint: str = ""
    """What its request asked for; "" = not told, as where it was cancelled before anybody read it."""
    payload: PayloadReference | None = None
    """The object that it was read from, if its message refers to one."""

    def answers(self, record: Record) -> bool:
        """Whether it is the outcome of this request, and not of another one with its id. Where one of them is not known
        to have asked for anything, it is: a request that lies in an object which is gone had its outcome before.
        """
        return not (self.fingerprint and record.fingerprint) or self.fingerprint == record.fingerprint


class Outcomes:
    """Settles requests. Each is settled by one task that ends when the outcome is durable, however long that takes;
    it keeps its place among the held ones until then, so that a broker that is away stops the intake.
    """

    def __init__(
        self,
        connection: Client,
        storing: Storing,
        burials: Burials,
        *,
        ledger: Ledger,
        delivery: Delivery,
        references: References,
        spans: RouterSpans,
        metrics: RouterMetrics,
    ) -> None:
        self._connection = connection
        self._js = connection.jetstream(timeout=ATTEMPT_S)
        self._storing = storing
        self._burials = burials
        self._ledger = ledger
        self._delivery = delivery
        self._references = references
        self._spans = spans
        self._metrics = metrics
        self._compare: Callable[[Record, Outcome], Awaitable[None]] = _nothing

    def on_copy(self, compare: Callable[[Record, Outcome], Awaitable[None]]) -> None:
        """`compare` gets what became of copies for a shadow, which have no outcome otherwise."""
        self._compare = compare

    async def settle(self, record: Record, outcome: Outcome, *, dead: bool = False) -> None:
        """Makes `outcome` the request's outcome, unless it has one already."""
        if record.shadow_of is not None:
            await self._discard(record, outcome)
            return
        began_s = time.time()
        if dead and outcome.failure is not None:
            letter = letter_of(record.message, outcome.failure, record.attempts, record.trace, record.id)
            await self._burials.keep(letter, record.message.metadata.sequence.stream)
        durable = await self._store(record, outcome)
        if durable.answers(record):
            await self.answer(record, durable.outcome)
            self._metrics.ended(record, durable.outcome)
        else:
            await self.refuse_duplicate(record)
        self._metrics.settled(record, began_s)

    async def _discard(self, record: Record, outcome: Outcome) -> None:
        """Ends a copy for a shadow: nobody is told, and nothing of it is kept."""
        try:
            await self._compare(record, outcome)
        finally:
            await quietly(record.message.ack())
            self._spans.end(record, outcome)
            self._ledger.remove(record.id, outcome)

    async def answer(self, record: Record, outcome: Outcome) -> None:
        """Tells the consumer of an outcome that is durable, and lets the request go."""
        self._spans.delivered(record)
        self._delivery.finished(record, outcome)
        await quietly(record.message.ack())
        await self._references.settled(record.request, outcome)
        self._spans.end(record, outcome)
        self._ledger.remove(record.id, outcome)
        log.info(
            "request.ended",
            request_id=record.id,
            trace_id=record.trace.trace_id,
            outcome=outcome.kind.value,
            code=outcome.failure.code if outcome.failure else None,
            model=outcome.model,
            output_tokens=outcome.usage.output_tokens,
            total_s=round(outcome.usage.total_s, 3),
            attempts=outcome.usage.attempts,
        )

    async def release(self, record: Record) -> None:
        """Gives a request back to its queue, for another router. One that came straight back waits a little longer
        each time: a pull that is still open here would only fetch it again.
        """
        delay_s = min(FIRST_DELAY_S * 2 ** (record.bounces - 1), MAX_DELAY_S) if record.bounces else None
        await quietly(record.message.nak(delay=delay_s))
        self._spans.release(record)
        self._ledger.remove(record.id, None)

    async def put_off(self, record: Record) -> None:
        """Gives a request back that waits for the outcome of another message with its id; for longer each time."""
        times = record.message.metadata.num_delivered
        await quietly(record.message.nak(delay=min(FIRST_DELAY_S * 2.0**times, MAX_PUT_OFF_S)))
        self.let_go(record, "another router has a message with its id")

    async def acknowledge(self, message: Msg) -> None:
        """Takes a message off its queue that asks for what another one gets."""
        await quietly(message.ack())

    def let_go(self, record: Record, reason: str) -> None:
        """Forgets a request, with no word to the broker: it is another router's, or is delivered again."""
        self._delivery.forget(record)
        self._spans.let_go(record, reason)
        self._ledger.remove(record.id, None)

    async def refuse_duplicate(self, record: Record) -> None:
        """Keeps a request as a dead letter whose id has the outcome of another, and tells its consumer."""
        error = DuplicateRequest(record.id)
        await self._burials.bury(record.message, error, record.id)
        refused = refusal(record, error)
        self._delivery.forget(record)
        self._delivery.refused(record, refused)
        self._spans.end(record, refused)
        self._metrics.ended(record, refused)
        self._ledger.remove(record.id, refused)
        log.info("request.id_used_before", request_id=record.id, queue=record.message.subject)

    async def find(self, tenant: str, request_id: str) -> Durable | None:
        """The durable outcome of a request, if it can be found now."""
        try:
            return await self._read(tenant, request_id)
        except (NatsError, TimeoutError, MalformedMessage):
            # Not now: storing a second one will fail, and find it then.
            return None

    async def whole_outcome(self, tenant: str, request_id: str) -> Outcome | None:
        """The durable outcome with its text and tokens, if it can be found now."""
        found = await self.find(tenant, request_id)
        return None if found is None else found.outcome

    async def _read(self, tenant: str, request_id: str) -> Durable | None:
        """The durable outcome; None where there is none. Raises what the broker or the decoder raises."""
        try:
            found = await self._js.get_last_msg(RESULTS_STREAM, result_subject(tenant, request_id))
        except NotFoundError:
            return None
        headers = found.headers or {}
        content_type = headers.get(HEADER_CONTENT_TYPE, CONTENT_TYPE_JSON)
        outcome = decode_result(found.data or b"", content_type)
        return Durable(
            outcome=await self._references.whole(tenant, outcome, content_type),
            fingerprint=headers.get(HEADER_FINGERPRINT, ""),
            payload=outcome.payload,
        )

    async def _store(self, record: Record, outcome: Outcome) -> Durable:
        """The outcome that is durable in the end: this one, or the one that was there before."""
        subject = result_subject(record.request.tenant, record.id)
        kind = CONTENT_TYPE_JSON if record.as_json else CONTENT_TYPE_PROTOBUF
        headers = {
            HEADER_REQUEST_ID: record.id,
            HEADER_CONTENT_TYPE: kind,
            HEADER_FINGERPRINT: record.fingerprint,
        }
        inject(record.trace, headers)
        body = encode_result(outcome, as_json=record.as_json)
        stored = outcome
        if message_size(body, headers) > self._connection.max_payload:
            stored = await self._references.store(record.tenant, outcome, body)
            body = encode_result(stored, as_json=record.as_json)
        unread = Backoff(*READ_RETRY_S)
        while not await self._stored(record, subject, body, headers):
            # Another one is there, and counts. Where it cannot be read now, ours must not be told in its place.
            try:
                if (earlier := await self._read(record.request.tenant, record.id)) is not None:
                    if earlier.payload != stored.payload:
                        await self._references.drop(record.tenant, stored)
                    return earlier
            except MalformedMessage:
                break
            except (NatsError, TimeoutError) as error:
                log.warning("outcome.not_read", request_id=record.id, problem=type(error).__name__)
            await asyncio.sleep(unread.next_s())
        return Durable(outcome=stored if stored.payload is None else outcome, payload=stored.payload)

    async def _stored(self, record: Record, subject: str, body: bytes, headers: dict[str, str]) -> bool:
        with self._spans.storing(record, len(body)) as span:
            return await self._storing.store(
                subject, body, headers, failed=lambda: span.add_event(names.EVENT_RETRY)
            )


def refusal(record: Record, error: HeadraceError) -> Outcome:
    """The outcome of a request that is ended by an error before any compute here; what was made elsewhere is kept."""
    match error:
        case DeadlinePassed():
            kind = OutcomeKind.EXPIRED
        case TooManyAttempts():
            kind = OutcomeKind.FAILED
        case _:
            kind = OutcomeKind.REJECTED
    return record.outcome(kind, time.time(), failure=Failure.of(error))


async def _nothing(record: Record, outcome: Outcome) -> None:
    """For a router without shadows."""
