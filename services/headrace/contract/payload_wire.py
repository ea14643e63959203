"""A request in two parts: a message that fits NATS, and the object that holds the rest of it."""

from __future__ import annotations

from dataclasses import replace

from headrace.contract.common_wire import encode_payload
from headrace.contract.errors import InvalidRequest, MalformedMessage
from headrace.contract.queue_wire import (
    encode_request,
    parse_request,
    request_of,
    serialise_request,
)
from headrace.contract.requests import Request
from headrace.contract.subjects import Queue
from headrace.contract.values import PayloadReference
from headrace.v1 import queue_pb2 as pb


def encode_content(request: Request) -> bytes:
    """The object's part of a request, as protobuf: its input and its stop strings, which alone can be long."""
    only = Request(
        id="",
        tenant=request.tenant,
        model=request.model,
        priority=request.priority,
        prompt=request.prompt,
        messages=request.messages,
        stop=request.stop,
        texts=request.texts,
    )
    return encode_request(only)


def without_content(request: Request, payload: PayloadReference) -> Request:
    """The message's part of a request, whose content lies in the object."""
    return replace(request, prompt="", messages=(), texts=(), stop=(), payload=payload)


def decode_whole_request(body: bytes, content: bytes, content_type: str, queue: Queue) -> Request:
    """The request of a message of `queue` and of its object; it still refers to the object.

    Raises MalformedMessage for the message, InvalidRequest("payload") for the object.
    """
    message, whole = _parsed(body, content, content_type)
    whole.payload.CopyFrom(message.payload)
    return request_of(whole, queue)


def join_request(body: bytes, content: bytes, content_type: str) -> bytes:
    """The message as it would be if it were not too large, in the same format; it refers to nothing. Raises as
    `decode_whole_request`.
    """
    _, whole = _parsed(body, content, content_type)
    return serialise_request(whole, content_type)


def _parsed(body: bytes, content: bytes, content_type: str) -> tuple[pb.QueuedRequest, pb.QueuedRequest]:
    """The message, and the whole: the object's fields, but those of the message where it has them."""
    message = parse_request(body, content_type)
    try:
        whole = parse_request(content, content_type)
    except MalformedMessage as error:
        raise InvalidRequest("payload", f"the object: {error.problem}") from None
    if whole.HasField("payload"):
        raise InvalidRequest("payload", "the object refers to another one; it must hold the request itself")
    if whole.id and whole.id != message.id:
        raise InvalidRequest("payload", "the object holds an id; an id belongs in the message")
    for field, _ in message.ListFields():
        whole.ClearField(field.name)  # type: ignore[arg-type]  # the stub wants a literal
    whole.ClearField("gateway")  # only gateways name one, and in the message
    whole.MergeFrom(message)
    whole.ClearField("payload")
    return message, whole


def encode_reference(request_id: str, payload: PayloadReference, content_type: str) -> bytes:
    """A message that holds nothing but its id: all else is in the object, which is a request in the same format."""
    message = pb.QueuedRequest(id=request_id, payload=encode_payload(payload))
    return serialise_request(message, content_type)
