"""Dead letters: requests that were given up, and messages that hold none.

Who waits for the answer to such a message is told so, as far as it can be read who that is. Its dead letter is stored,
its outcome becomes durable, its consumer is told, it is acknowledged. In that order: after a crash it is delivered
again, and all of this is done again, to the same letter and the same outcome; the consumer may be told twice.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from headrace.contract.errors import HeadraceError
from headrace.contract.queue_wire import DeadLetter, encode_dead_letter, encode_result
from headrace.contract.subjects import (
    CONTENT_TYPE_JSON,
    CONTENT_TYPE_PROTOBUF,
    HEADER_CONTENT_TYPE,
    HEADER_FINGERPRINT,
    HEADER_REQUEST_ID,
    REQUESTS_STREAM,
    dead_subject_of,
    is_queue,
    parse_queue,
    result_subject,
    token_subject,
)
from headrace.contract.values import Failure, Outcome, TraceContext
from headrace.router.delivery import Delivery
from headrace.router.ledger import Ledger
from headrace.router.metrics import RouterMetrics
from headrace.router.ownership import Ownership
from headrace.router.quietly import quietly
from headrace.router.references import References
from headrace.router.storing import Storing
from headrace.router.strays import Stray
from headrace.router.unread import Unread, unread_message, unread_stray
from headrace.runtime.nats_size import message_size
from headrace.runtime.propagation import extract, inject

log = structlog.get_logger(__name__)

SHOWN_SUBJECT = 80
"""Characters of a subject that names no queue in a line of log: it may be thousands long."""


class Burials:
    """Keeps dead letters. Bounded by the messages that were pulled, and one that was not."""

    def __init__(
        self,
        connection: Client,
        storing: Storing,
        *,
        delivery: Delivery,
        ledger: Ledger,
        ownership: Ownership,
        references: References,
        metrics: RouterMetrics,
        most_bytes: int,
    ) -> None:
        """`most_bytes`: of a message that holds no request, no longer body is searched for who waits for its answer."""
        self._connection = connection
        self._storing = storing
        self._delivery = delivery
        self._ledger = ledger
        self._ownership = ownership
        self._references = references
        self._metrics = metrics
        self._most_bytes = most_bytes
        self._ending: dict[int, Msg] = {}
        """By place in the stream: messages whose dead letter is being stored, as they were delivered last."""

    async def bury(self, message: Msg, error: HeadraceError, request_id: str) -> None:
        """Keeps a message that is not answered as a dead letter, and takes it off its queue. Its consumer is told by
        whoever knows it.
        """

        async def keep() -> None:
            attempts, trace = message.metadata.num_delivered, extract(message.headers)
            letter = letter_of(message, Failure.of(error), attempts, trace, request_id)
            await self.keep(letter, message.metadata.sequence.stream)

        await self._end(message, keep)

    async def refuse(self, message: Msg, error: HeadraceError) -> None:
        """Ends a message that holds no request: it is never delivered again."""

        async def refuse() -> None:
            unread = unread_message(message, self._most_bytes)
            log.warning(
                "request.malformed",
                request_id=unread.request_id,
                queue=message.subject,
                code=error.code,
                problem=str(error),
            )
            await self._refuse(unread, Failure.of(error))

        await self._end(message, refuse)

    async def refuse_stray(self, stray: Stray, error: HeadraceError) -> None:
        """The same for a message that no consumer delivers. Taking it off the stream is the caller's."""
        unread = unread_stray(stray, self._most_bytes)
        subject = stray.subject[:SHOWN_SUBJECT]
        log.warning("request.stray", request_id=unread.request_id, subject=subject, problem=str(error))
        await self._refuse(unread, Failure.of(error))

    async def _end(self, message: Msg, keep: Callable[[], Awaitable[None]]) -> None:
        """Takes a message off its queue when it is kept. Delivered again while it waits for that, it waits no second
        time: its newest delivery is the one to acknowledge.
        """
        number = message.metadata.sequence.stream
        waits = number in self._ending
        self._ending[number] = message
        if waits:
            return
        try:
            await keep()
            await quietly(self._ending[number].ack())
        finally:
            del self._ending[number]

    async def _refuse(self, unread: Unread, failure: Failure) -> None:
        await self.keep(unread.letter(failure), unread.sequence)
        if not unread.awaited:
            return
        outcome, subject = unread.outcome(failure), unread.reply_to
        # The outcome of an id that a request has is that request's, and so is what the id's own subject tells.
        if unread.tenant and not await self._is_running(unread):
            await self._store(unread, outcome)
            subject = subject or token_subject(unread.tenant, unread.request_id)
        if subject:
            self._delivery.unread(unread, subject, outcome)

    async def _is_running(self, unread: Unread) -> bool:
        """Whether a router is at work on a request of its id. One that ended has its outcome, which stays."""
        if not unread.chosen_id:
            return False
        if self._ledger.find(unread.tenant, unread.request_id) is not None:
            return True
        return await self._ownership.is_running(unread.tenant, unread.request_id, unread.sequence)

    async def _store(self, unread: Unread, outcome: Outcome) -> None:
        headers = {
            HEADER_REQUEST_ID: unread.request_id,
            HEADER_CONTENT_TYPE: CONTENT_TYPE_JSON if unread.as_json else CONTENT_TYPE_PROTOBUF,
            HEADER_FINGERPRINT: unread.fingerprint,
        }
        inject(unread.trace, headers)
        body = encode_result(outcome, as_json=unread.as_json)
        first = await self._storing.store(result_subject(unread.tenant, unread.request_id), body, headers)
        if first and outcome.failure is not None and is_queue(unread.subject):
            self._metrics.refused(parse_queue(unread.subject), outcome.failure.code)

    async def keep(self, letter: DeadLetter, sequence: int) -> None:
        """Returns when the letter of the message at that place is durable."""
        body = encode_dead_letter(letter)
        # One letter per message, however often its burial is begun anew after a crash.
        place = f"{REQUESTS_STREAM}/{sequence}"
        headers = {HEADER_REQUEST_ID: place, HEADER_CONTENT_TYPE: CONTENT_TYPE_PROTOBUF}
        if message_size(body, headers) > self._connection.max_payload:  # it would cost the connection
            letter = await self._references.shorten(letter)
            body = encode_dead_letter(letter)
        if message_size(body, headers) > self._connection.max_payload:
            # Its reason is worth more than its body.
            body = encode_dead_letter(replace(letter, headers={}, body=b""))
        await self._storing.store(dead_subject_of(letter.subject), body, headers)
        self._metrics.buried(letter.failure.code)


def letter_of(
    message: Msg, failure: Failure, attempts: int, trace: TraceContext, request_id: str
) -> DeadLetter:
    """What is kept of a message."""
    return DeadLetter(
        request_id=request_id,
        subject=message.subject,
        headers=message.headers or {},
        body=message.data,
        failure=failure,
        attempts=attempts,
        time_s=time.time(),
        trace=trace,
    )
