"""From the bytes of a pulled message to a record: what is asked, by whom, and where the answer goes."""

from __future__ import annotations

import time
from dataclasses import replace

import structlog
from nats.aio.msg import Msg

from headrace.contract.errors import HeadraceError
from headrace.contract.ids import (
    check_request_id,
    derived_request_id,
    is_request_id,
    may_be_used_again,
)
from headrace.contract.queue_wire import decode_request, is_protobuf
from headrace.contract.requests import Request
from headrace.contract.subjects import (
    HEADER_CONTENT_TYPE,
    HEADER_REQUEST_ID,
    check_reply_subject,
    parse_queue,
    token_subject,
)
from headrace.router.ledger import Hold, Record
from headrace.router.shadows import shadow_of

log = structlog.get_logger(__name__)


def read(message: Msg, duplicate_window_s: float, leased_s: float) -> Record:
    """The record of a message. Raises a HeadraceError where there can be none, also where the fault is ours: such a
    message would otherwise be delivered again for ever.
    """
    try:
        return _read(message, duplicate_window_s, leased_s)
    except HeadraceError:
        raise
    except Exception as error:
        log.error("request.intake_failed", queue=message.subject, kind=type(error).__name__)
        raise HeadraceError("the router could not read the message") from error


def _read(message: Msg, duplicate_window_s: float, leased_s: float) -> Record:
    """Raises MalformedMessage, or InvalidRequest where the subject or an enum is none."""
    queue = parse_queue(message.subject)
    headers = message.headers or {}
    content_type = headers.get(HEADER_CONTENT_TYPE, "")
    request = decode_request(message.data, content_type, queue)
    metadata = message.metadata
    accepted_s = metadata.timestamp.timestamp()
    chosen = _chosen_id(request, headers.get(HEADER_REQUEST_ID, ""))
    request_id = chosen or derived_request_id(
        metadata.stream, metadata.sequence.stream, round(accepted_s * 1000)
    )
    reply_to = request.reply_to or token_subject(request.tenant, request_id)
    check_reply_subject(reply_to, request.tenant)
    return Record(
        request=replace(request, id=request_id, reply_to=reply_to),
        chosen_id=bool(chosen),
        used_again=may_be_used_again(request_id, accepted_s, duplicate_window_s),
        message=message,
        sequence=metadata.sequence.stream,
        accepted_s=accepted_s,
        as_json=not is_protobuf(content_type),
        complete=request.payload is None,
        hold=Hold.CLAIMING if metadata.num_delivered > 1 else Hold.OWNED,
        leased_s=leased_s,
        followers={request.gateway} - {""},
        shadow_of=shadow_of(request.tenant, headers),
        waiting_since_s=time.time(),
    )


def _chosen_id(request: Request, header: str) -> str:
    """The id that the producer gave: in the message, else in the header where that holds one; "" = none."""
    if request.id:
        return check_request_id("id", request.id)
    return header if is_request_id(header) else ""
