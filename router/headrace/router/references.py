"""What a router does with requests and outcomes that are too large for a message: it fetches the former, and stores the
latter, with the patience that is due to what was accepted.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace

import structlog

from headrace.contract.errors import DeadlinePassed, HeadraceError, InvalidRequest, Overloaded, Unavailable
from headrace.contract.payload_wire import encode_reference
from headrace.contract.queue_wire import DeadLetter, decode_request
from headrace.contract.requests import Request
from headrace.contract.subjects import (
    HEADER_CONTENT_TYPE,
    check_reply_subject,
    parse_queue,
    token_subject,
)
from headrace.contract.values import Outcome, OutcomeKind
from headrace.router.ledger import Record
from headrace.runtime.backoff import Backoff
from headrace.runtime.oversize import Oversize, too_large

log = structlog.get_logger(__name__)

ANSWER_S = 5.0
"""How long the broker may take for each piece of an object: it answers within milliseconds, or it is in trouble."""
FIRST_WAIT_S = 0.1
"""The wait after the first attempt that failed; doubled, with jitter, up to `router.result_retry_max_wait_s`."""
SHOWN_SUBJECT = 80
"""Characters of a subject in a line of log: one that names no queue may be thousands long."""
FULL_PATIENCE_S = 10.0
"""How long an outcome waits for room among the objects. Not for ever: room comes when requests end, and if they all
waited for it, none would.
"""


class References:
    """Reads and writes the objects. Bounded by the requests held, and by how many objects are read at once."""

    def __init__(self, oversize: Oversize, *, max_wait_s: float) -> None:
        self._oversize = oversize
        self._max_wait_s = max_wait_s

    async def complete(self, record: Record) -> None:
        """Fills in what the object of a request holds, if it has one; waits for a broker that is away.

        Raises InvalidRequest("payload") where the object is not what it should be, DeadlinePassed.
        """
        message = record.message
        content_type = (message.headers or {}).get(HEADER_CONTENT_TYPE, "")
        queue = parse_queue(message.subject)
        backoff = Backoff(FIRST_WAIT_S, self._max_wait_s)
        while not record.complete:
            try:
                whole = await self._oversize.whole_request(message.data, content_type, queue, record.request)
            except Unavailable as error:
                log.warning("request.not_fetched", request_id=record.id, problem=str(error))
                _check_deadline(record.request)
                await asyncio.sleep(backoff.next_s())
            else:
                record.request, record.complete = _addressed(record.request, whole), True

    async def know(self, record: Record) -> None:
        """Finds out what a request asks for, if its message does not tell and the object is there."""
        if not record.fingerprint:
            with suppress(InvalidRequest):
                await self.complete(record)

    async def compare(self, held: Record, again: Record) -> None:
        """Finds out whether two messages of one id ask for the same. The first may have ended when this returns."""
        await self.know(held)
        await self.know(again)

    async def spare(self, held: Record, again: Record) -> None:
        """Removes the object of a message that asks for what another one gets, unless it is the same object."""
        if again.request.payload is not None and again.request.payload != held.request.payload:
            await self._oversize.drop_request(again.request)

    async def shorten(self, letter: DeadLetter) -> DeadLetter:
        """A letter whose message nearly was too large itself, with that message in an object; as it is where it is no
        request, or the object store does not take it now.
        """
        content_type = letter.headers.get(HEADER_CONTENT_TYPE, "")
        try:
            queue = parse_queue(letter.subject)
            request = decode_request(letter.body, content_type, queue)
            if request.payload is not None:
                return letter
            reference = await self._oversize.put_message(queue.tenant, letter.body)
        except HeadraceError as error:
            log.info("letter.not_shortened", subject=letter.subject[:SHOWN_SUBJECT], code=error.code)
            return letter
        return replace(letter, body=encode_reference(request.id, reference, content_type))

    async def store(self, tenant: str, outcome: Outcome, encoded: bytes) -> Outcome:
        """What the message is to hold of an outcome that is too large for one as `encoded`: a reference, or, where the
        object store does not take it, how the request ended and why there is no more. Waits for a broker that is away.
        """
        until_s = time.monotonic() + FULL_PATIENCE_S
        backoff = Backoff(FIRST_WAIT_S, self._max_wait_s)
        while True:
            try:
                return await self._oversize.put_outcome(tenant, outcome, encoded)
            except InvalidRequest as error:
                return too_large(outcome, error)
            except Overloaded as error:
                if time.monotonic() >= until_s:
                    return too_large(outcome, error)
                problem: HeadraceError = error
            except Unavailable as error:
                problem = error
            log.warning("outcome.not_stored", request_id=outcome.request_id, problem=str(problem))
            await asyncio.sleep(backoff.next_s())

    async def whole(self, tenant: str, outcome: Outcome, content_type: str) -> Outcome:
        """A durable outcome with its text and tokens; without, where they cannot be read now."""
        try:
            return await self._oversize.whole_outcome(tenant, outcome, content_type)
        except HeadraceError as error:
            log.warning("outcome.not_fetched", request_id=outcome.request_id, problem=str(error))
            return outcome

    async def drop(self, tenant: str, outcome: Outcome) -> None:
        """Removes the object of an outcome that did not become the request's."""
        await self._oversize.drop_outcome(tenant, outcome)

    async def settled(self, request: Request, outcome: Outcome) -> None:
        """Removes the object of a request that has its outcome: unless that is `failed`, for then there is a dead
        letter, which can be replayed.
        """
        if outcome.kind is not OutcomeKind.FAILED:
            await self._oversize.drop_request(request)


def _check_deadline(request: Request) -> None:
    if request.deadline_s is not None and (late_s := time.time() - request.deadline_s) > 0:
        raise DeadlinePassed(late_s)


def _addressed(message: Request, whole: Request) -> Request:
    """The whole request under the id of its message; the object may say where the tokens go if the message does not."""
    own = token_subject(message.tenant, message.id)
    reply_to = whole.reply_to if message.reply_to == own and whole.reply_to else message.reply_to
    return replace(whole, id=message.id, reply_to=check_reply_subject(reply_to, message.tenant))
