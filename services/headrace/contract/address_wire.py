"""Whom to answer, from a message that is no request as a whole: its id and its reply subject, as far as they stand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from headrace.contract.queue_wire import is_protobuf
from headrace.v1.queue_pb2 import QueuedRequest

MAX_FIELDS = 4_096
"""Fields of a protobuf message that are looked at: more than a request within the limits has, in milliseconds."""

_LENGTH_DELIMITED = 2
_FIXED_BYTES = {1: 8, 5: 4}
"""By wire type."""
_MAX_VARINT_BYTES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What was read, unchecked; "" = nothing. Each is text that UTF-8 can hold."""

    id: str = ""
    reply_to: str = ""


def read_address(body: bytes, content_type: str) -> Address:
    """What can be read of the message in `body`, be it a request or not. Raises nothing for what stands in it."""
    found = _of_protobuf(body) if is_protobuf(content_type) else _of_json(body)
    return Address(id=found.get("id", ""), reply_to=found.get("reply_to", ""))


def _of_json(body: bytes) -> dict[str, str]:
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):  # also where it is not UTF-8, or a number has too many digits
        return {}
    if not isinstance(read, dict):
        return {}
    named = {"id": read.get("id"), "reply_to": read.get("reply_to", read.get("replyTo"))}
    return {name: value for name, value in named.items() if isinstance(value, str) and _is_utf8(value)}


def _is_utf8(text: str) -> bool:
    """JSON can name half a surrogate pair, which nothing can be sent to."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _of_protobuf(body: bytes) -> dict[str, str]:
    """From the fields before the one at which the message breaks, if it does."""
    fields = QueuedRequest.DESCRIPTOR.fields_by_name
    wanted = {fields[name].number: name for name in ("id", "reply_to")}
    found = {}
    for number, value in _texts(body):
        if number in wanted:
            try:
                found[wanted[number]] = value.decode()
            except UnicodeDecodeError:
                continue
    return found


def _texts(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a protobuf message with their numbers, until it ends or makes no sense."""
    at = 0
    for _ in range(MAX_FIELDS):
        tag, at = _varint(body, at)
        if at >= len(body):
            return
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _LENGTH_DELIMITED:
            size, at = _varint(body, at)
            if size > len(body) - at:
                return
            yield number, body[at : at + size]
            at += size
        elif wire_type == 0:
            _, at = _varint(body, at)
        elif wire_type in _FIXED_BYTES:
            at += _FIXED_BYTES[wire_type]
        else:
            return


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """A number, and where what follows it begins: beyond the end where the number does not end."""
    value = 0
    for index, byte in enumerate(body[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, at + index + 1
    return 0, len(body) + 1
