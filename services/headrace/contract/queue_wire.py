"""The messages on NATS to bytes and back: protobuf, or proto-JSON for producers that have nothing but a NATS client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from headrace.contract.common_wire import (
    decode_failure,
    decode_message,
    decode_outcome,
    decode_payload,
    decode_sampling,
    decode_task,
    decode_timestamp,
    decode_trace,
    encode_chunk,
    encode_failure,
    encode_message,
    encode_outcome,
    encode_payload,
    encode_sampling,
    encode_task,
    encode_timestamp,
    encode_trace,
)
from headrace.contract.errors import MalformedMessage
from headrace.contract.requests import Request
from headrace.contract.subjects import CONTENT_TYPE_JSON, CONTENT_TYPE_PROTOBUF, Queue
from headrace.contract.values import Failure, Outcome, TokenChunk, TraceContext
from headrace.v1 import common_pb2
from headrace.v1 import queue_pb2 as pb

# Anchored, so that nothing which the parser quotes from the body can be taken for its own words.
_WRONG_FIELD = re.compile(r"Failed to parse (\w+) field: ")
_UNKNOWN_FIELD = re.compile(r'Message type "[\w.]+" has no field named "(\w+)" at ')
_NOT_JSON = re.compile(r"Failed to load JSON: .*: (line \d+ column \d+) \(char \d+\)\.", re.DOTALL)


def encode_request(request: Request) -> bytes:
    """As protobuf; model, priority and tenant travel in the subject."""
    message = pb.QueuedRequest(
        id=request.id,
        prompt=request.prompt,
        messages=[encode_message(message) for message in request.messages],
        sampling=encode_sampling(request.sampling),
        max_tokens=request.max_tokens,
        stop=request.stop,
        reply_to=request.reply_to,
        gateway=request.gateway,
        task=encode_task(request.task),
        texts=request.texts,
        source_language=request.source_language,
        target_language=request.target_language,
    )
    if request.payload is not None:
        message.payload.CopyFrom(encode_payload(request.payload))
    if request.deadline_s is not None:
        message.deadline.CopyFrom(encode_timestamp(request.deadline_s))
    return message.SerializeToString()


def decode_request(body: bytes, content_type: str, queue: Queue) -> Request:
    """The request in a message of `queue`; its id may still be empty.

    Raises MalformedMessage where the bytes are none, InvalidRequest where an enum's number is none.
    """
    return request_of(parse_request(body, content_type), queue)


def request_of(message: pb.QueuedRequest, queue: Queue) -> Request:
    """The request in a message that was parsed. Raises InvalidRequest where an enum's number is none."""
    return Request(
        id=message.id,
        tenant=queue.tenant,
        model=queue.model,
        priority=queue.priority,
        prompt=message.prompt,
        messages=tuple(decode_message(entry) for entry in message.messages),
        sampling=decode_sampling(message.sampling),
        max_tokens=message.max_tokens,
        stop=tuple(message.stop),
        deadline_s=decode_timestamp(message.deadline) if message.HasField("deadline") else None,
        reply_to=message.reply_to,
        gateway=message.gateway,
        task=decode_task(message.task),
        texts=tuple(message.texts),
        source_language=message.source_language,
        target_language=message.target_language,
        payload=decode_payload(message.payload) if message.HasField("payload") else None,
    )


def parse_request(body: bytes, content_type: str) -> pb.QueuedRequest:
    """The message in `body`. Raises MalformedMessage, without a word of what stands in it."""
    message = pb.QueuedRequest()
    kind = _kind(content_type)
    try:
        if kind == CONTENT_TYPE_PROTOBUF:
            message.ParseFromString(body)
        elif kind == CONTENT_TYPE_JSON:
            json_format.Parse(body, message, max_recursion_depth=20)
        else:
            allowed = f"{CONTENT_TYPE_JSON} or {CONTENT_TYPE_PROTOBUF}"
            raise MalformedMessage("Content-Type", f"must be {allowed}")
    except (DecodeError, UnicodeDecodeError):
        raise MalformedMessage("body", f"is not a QueuedRequest in {kind}") from None
    except json_format.ParseError as error:
        raise MalformedMessage("body", _without_content(str(error))) from None
    except RecursionError:
        raise MalformedMessage("body", "is nested too deeply") from None
    return message


def is_protobuf(content_type: str) -> bool:
    """Whether a header says that a message is protobuf; JSON is the default."""
    return _kind(content_type) == CONTENT_TYPE_PROTOBUF


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower() or CONTENT_TYPE_JSON


def _without_content(problem: str) -> str:
    """What a JSON parser's message says of the place, without what it quotes of the body.

    The name of an unknown field is content, too, unless it is a slip of the pen in the name of a known one.
    """
    fields = pb.QueuedRequest.DESCRIPTOR.fields
    names = [name for field in fields for name in (field.name, field.json_name)]
    if (found := _WRONG_FIELD.match(problem)) and found.group(1) in names:
        return f"field {found.group(1)} has a wrong value"
    if found := _UNKNOWN_FIELD.match(problem):
        if close := get_close_matches(found.group(1), names, n=1, cutoff=0.8):
            return f"there is no field {found.group(1)}; did you mean {close[0]}?"
        return "has an unknown field; known are " + ", ".join(field.name for field in fields)
    if found := _NOT_JSON.fullmatch(problem):
        return f"is not JSON ({found.group(1)})"
    return "is not a QueuedRequest as proto-JSON"


def renew_request(
    body: bytes, content_type: str, request_id: str, *, without_deadline: bool = False
) -> bytes:
    """The request in `body` asked anew under another id, in the same format: nobody waits for it at a gateway.

    Raises MalformedMessage.
    """
    message = parse_request(body, content_type)
    message.id = request_id
    message.ClearField("gateway")
    if without_deadline:
        message.ClearField("deadline")
    return serialise_request(message, content_type)


def serialise_request(message: pb.QueuedRequest, content_type: str) -> bytes:
    """A message in the format that was parsed from `content_type`."""
    if is_protobuf(content_type):
        return message.SerializeToString()
    return json_format.MessageToJson(
        message, indent=None, preserving_proto_field_name=True, ensure_ascii=False
    ).encode()


def request_json(body: bytes, content_type: str) -> str:
    """The request in `body` as proto-JSON for a person, its content included. Raises MalformedMessage."""
    return json_format.MessageToJson(
        parse_request(body, content_type), preserving_proto_field_name=True, ensure_ascii=False
    )


def encode_token_event(request_id: str, event: TokenChunk | Outcome, *, as_json: bool) -> bytes:
    message = pb.TokenEvent(request_id=request_id)
    if isinstance(event, TokenChunk):
        message.tokens.CopyFrom(encode_chunk(event))
    else:
        message.finished.CopyFrom(encode_outcome(event, whole=False))
    if as_json:
        return json_format.MessageToJson(
            message, indent=None, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        ).encode()
    return message.SerializeToString()


def encode_result(outcome: Outcome, *, as_json: bool) -> bytes:
    message = encode_outcome(outcome, whole=True)
    if as_json:
        return json_format.MessageToJson(
            message, indent=None, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        ).encode()
    return message.SerializeToString()


def decode_result(body: bytes, content_type: str) -> Outcome:
    """Raises MalformedMessage."""
    message = common_pb2.Outcome()
    try:
        if content_type == CONTENT_TYPE_PROTOBUF:
            message.ParseFromString(body)
        else:
            json_format.Parse(body, message, ignore_unknown_fields=True)
    except (DecodeError, json_format.ParseError, UnicodeDecodeError, RecursionError):
        raise MalformedMessage("result", "is not an Outcome") from None
    return decode_outcome(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A request that was given up, with the message as it was."""

    request_id: str
    subject: str
    headers: Mapping[str, str]
    body: bytes
    failure: Failure
    attempts: int
    time_s: float
    trace: TraceContext


def encode_dead_letter(letter: DeadLetter) -> bytes:
    return pb.DeadLetter(
        request_id=letter.request_id,
        subject=letter.subject,
        headers=dict(letter.headers),
        body=letter.body,
        error=encode_failure(letter.failure),
        attempts=letter.attempts,
        time=encode_timestamp(letter.time_s),
        trace=encode_trace(letter.trace),
    ).SerializeToString()


def decode_dead_letter(body: bytes) -> DeadLetter:
    """Raises MalformedMessage."""
    message = pb.DeadLetter()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise MalformedMessage("dead letter", "is not a DeadLetter") from None
    return DeadLetter(
        request_id=message.request_id,
        subject=message.subject,
        headers=dict(message.headers),
        body=message.body,
        failure=decode_failure(message.error),
        attempts=message.attempts,
        time_s=decode_timestamp(message.time),
        trace=decode_trace(message.trace),
    )
