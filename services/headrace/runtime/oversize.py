"""Requests and outcomes that are too large for a message: the message refers to an object that holds the rest.

Nobody but those who send and read the messages notices. What becomes of the objects:

- A request's is removed when the request has its outcome, and kept with the dead letter where that is `failed`.
- An outcome's has the outcome's age.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from headrace.contract.errors import HeadraceError, InvalidRequest, MalformedMessage, Unavailable
from headrace.contract.payload_names import (
    check_request_object,
    is_request_object,
    is_result_object,
    new_request_object,
    new_result_object,
)
from headrace.contract.payload_wire import (
    decode_whole_request,
    encode_content,
    join_request,
    without_content,
)
from headrace.contract.queue_wire import decode_result
from headrace.contract.requests import Request, content_field
from headrace.contract.subjects import Queue
from headrace.contract.values import Failure, Outcome, PayloadReference
from headrace.runtime.payloads import Payloads

READS_AT_ONCE = 8
"""Objects that are read and taken apart at the same time; further ones wait. Bounds what they take of the memory."""

RESULT_LOST = "RESULT_LOST"
RESULT_TOO_LARGE = "RESULT_TOO_LARGE"
"""Codes in the error of an outcome that is completed, but whose text and tokens are not there to be read."""


class Oversize:
    """Puts what is too large for a message into objects, and gets it back."""

    def __init__(self, payloads: Payloads, *, result_max_age_s: float) -> None:
        self._payloads = payloads
        self._result_max_age_s = result_max_age_s
        self._reading = asyncio.Semaphore(READS_AT_ONCE)

    async def put_request(self, request: Request) -> Request:
        """What the message is to hold of a request, whose content is now in an object.

        Raises InvalidRequest where it is over the limit for objects, Overloaded where the bucket is full, Unavailable.
        """
        content = encode_content(request)
        if len(content) > self._payloads.max_bytes:
            raise InvalidRequest(
                content_field(request),
                f"the request is {len(content)} bytes; limits.max_payload_bytes allows {self._payloads.max_bytes}",
            )
        name = new_request_object(request.tenant, request.id)
        return without_content(request, await self._payloads.put(name, content))

    async def put_message(self, tenant: str, body: bytes) -> PayloadReference:
        """Puts a message that is a request into an object of its own. Raises as `put_request`."""
        return await self._payloads.put(new_request_object(tenant, "letter"), body)

    async def whole_request(self, body: bytes, content_type: str, queue: Queue, request: Request) -> Request:
        """`request`, as it was read from the message `body` of `queue`, with what its object holds.

        Raises InvalidRequest("payload") where there is no such object, or it is another tenant's, too large, or no
        request; Unavailable where the broker does not answer.
        """
        if request.payload is None:
            return request
        check_request_object(request.payload.object, request.tenant)
        async with self._reading:
            content = await self._payloads.get(request.payload)
            return await asyncio.to_thread(decode_whole_request, body, content, content_type, queue)

    async def whole_message(
        self, body: bytes, content_type: str, tenant: str, payload: PayloadReference
    ) -> bytes:
        """The message that refers to `payload`, as if it were not too large. Raises as `whole_request`."""
        check_request_object(payload.object, tenant)
        return join_request(body, await self._payloads.get(payload), content_type)

    async def drop_request(self, request: Request) -> None:
        """Removes a request's object, if it has one and may have it."""
        payload = request.payload
        if payload is not None and is_request_object(payload.object, request.tenant):
            await self._payloads.delete(payload.object)

    async def put_outcome(self, tenant: str, outcome: Outcome, encoded: bytes) -> Outcome:
        """What the message is to hold of an outcome, which is now in an object as `encoded`, all of it.

        Raises InvalidRequest where it is over the limit for objects, Overloaded where the bucket is full, Unavailable.
        """
        name = new_result_object(tenant, outcome.request_id)
        payload = await self._payloads.put(name, encoded, keep_s=self._result_max_age_s)
        return replace(outcome, text="", token_ids=(), text_lengths=(), vectors=(), payload=payload)

    async def whole_outcome(self, tenant: str, outcome: Outcome, content_type: str) -> Outcome:
        """`outcome`, as it was read from a message, with what its object holds; it refers to nothing.

        Where the object is gone or is none, it is the outcome without text, and its error says so. Raises Unavailable
        where the broker does not answer.
        """
        if outcome.payload is None:
            return outcome
        try:
            if not is_result_object(outcome.payload.object, tenant):
                raise InvalidRequest("payload", f"is not one of the tenant {tenant}")
            async with self._reading:
                content = await self._payloads.get(outcome.payload)
                whole = await asyncio.to_thread(decode_result, content, content_type)
        except Unavailable:
            raise
        except (InvalidRequest, MalformedMessage) as error:
            return without_output(outcome, RESULT_LOST, f"text and tokens cannot be read: {error}")
        return replace(whole, payload=None)

    async def drop_outcome(self, tenant: str, outcome: Outcome) -> None:
        """Removes the object of an outcome that did not become the request's."""
        payload = outcome.payload
        if payload is not None and is_result_object(payload.object, tenant):
            await self._payloads.delete(payload.object)


def without_output(outcome: Outcome, code: str, why: str) -> Outcome:
    """How a request ended, and why what it made is not there. An error of its own comes first."""
    return replace(
        outcome,
        text="",
        token_ids=(),
        text_lengths=(),
        vectors=(),
        payload=None,
        failure=outcome.failure or Failure(code=code, message=why),
    )


def too_large(outcome: Outcome, error: HeadraceError) -> Outcome:
    """What is kept of an outcome that even the object store does not take."""
    return without_output(
        outcome, RESULT_TOO_LARGE, f"text and tokens were streamed and are not kept: {error}"
    )
