"""A message that holds no request, and who waits for its answer, as far as that can be read.

A producer's slip of the pen is the usual reason: a name with a letter too few, an id that is none, a priority that
there is not. Its consumer waits for an end as any other does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from nats.aio.msg import Msg

from headrace.contract.address_wire import Address, read_address
from headrace.contract.errors import InvalidRequest
from headrace.contract.fingerprint import fingerprint_of_unread
from headrace.contract.ids import derived_request_id, is_request_id
from headrace.contract.queue_wire import DeadLetter, is_protobuf
from headrace.contract.subjects import (
    HEADER_CONTENT_TYPE,
    HEADER_REQUEST_ID,
    REQUESTS_STREAM,
    SHADOW_TENANT,
    check_reply_subject,
    model_of,
    tenant_of,
)
from headrace.contract.values import Failure, Outcome, OutcomeKind, TraceContext, Usage
from headrace.router.strays import Stray
from headrace.runtime.propagation import extract

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """The message as it came, and what was read of it."""

    subject: str
    headers: Mapping[str, str]
    body: bytes
    sequence: int
    """Its place in the stream."""
    deliveries: int
    accepted_s: float
    """Unix time at which the broker took it."""
    request_id: str
    """A valid one always."""
    chosen_id: bool
    """Whether the producer chose it; else it was made from the place."""
    reply_to: str
    """A subject that may be published to; "" where the message names none."""

    @property
    def tenant(self) -> str:
        """Empty where its subject names none."""
        return tenant_of(self.subject)

    @property
    def awaited(self) -> bool:
        """Whether somebody may wait for its answer. Nobody does for that of a copy for a shadow."""
        return self.tenant != SHADOW_TENANT

    @property
    def as_json(self) -> bool:
        return not is_protobuf(self.headers.get(HEADER_CONTENT_TYPE, ""))

    @property
    def fingerprint(self) -> str:
        """That of no request: one that takes its id later asks for something else."""
        return fingerprint_of_unread(self.body)

    @property
    def trace(self) -> TraceContext:
        return extract(self.headers)

    def outcome(self, failure: Failure) -> Outcome:
        """Its end, now."""
        total_s = max(0.0, time.time() - self.accepted_s)
        return Outcome(
            request_id=self.request_id,
            kind=OutcomeKind.REJECTED,
            model=model_of(self.subject),
            usage=Usage(queue_s=total_s, total_s=total_s),
            failure=failure,
        )

    def letter(self, failure: Failure) -> DeadLetter:
        """What is kept of it."""
        return DeadLetter(
            request_id=self.request_id,
            subject=self.subject,
            headers=self.headers,
            body=self.body,
            failure=failure,
            attempts=self.deliveries,
            time_s=time.time(),
            trace=self.trace,
        )


def unread_message(message: Msg, most_bytes: int) -> Unread:
    """What can be read of a message that a consumer delivered. A body of more than `most_bytes` is not looked at."""
    about = message.metadata
    return _unread(
        message.subject,
        message.headers or {},
        message.data,
        sequence=about.sequence.stream,
        deliveries=about.num_delivered,
        accepted_s=about.timestamp.timestamp(),
        most_bytes=most_bytes,
    )


def unread_stray(stray: Stray, most_bytes: int) -> Unread:
    """The same of a message that no consumer delivers."""
    return _unread(
        stray.subject,
        stray.headers,
        stray.body,
        sequence=stray.sequence,
        deliveries=0,
        accepted_s=stray.accepted_s,
        most_bytes=most_bytes,
    )


def _unread(
    subject: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    sequence: int,
    deliveries: int,
    accepted_s: float,
    most_bytes: int,
) -> Unread:
    address = Address()
    if len(body) <= most_bytes:
        try:
            address = read_address(body, headers.get(HEADER_CONTENT_TYPE, ""))
        except Exception as error:  # a fault of ours must not bring the message back for ever
            log.error("request.address_not_read", queue=subject, kind=type(error).__name__)
    named = (address.id, headers.get(HEADER_REQUEST_ID, ""))
    chosen = next((each for each in named if is_request_id(each)), "")
    return Unread(
        subject=subject,
        headers=headers,
        body=body,
        sequence=sequence,
        deliveries=deliveries,
        accepted_s=accepted_s,
        request_id=chosen or derived_request_id(REQUESTS_STREAM, sequence, round(accepted_s * 1000)),
        chosen_id=bool(chosen),
        reply_to=_permitted(address.reply_to, tenant_of(subject)),
    )


def _permitted(reply_to: str, tenant: str) -> str:
    """Empty where it may not be published to."""
    try:
        return check_reply_subject(reply_to, tenant)
    except InvalidRequest:
        return ""
