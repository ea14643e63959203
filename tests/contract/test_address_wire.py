"""Whom to answer, read from messages that are no requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contract.address_wire import MAX_FIELDS, Address, read_address
from headrace.contract.subjects import CONTENT_TYPE_JSON, CONTENT_TYPE_PROTOBUF
from headrace.v1.queue_pb2 import QueuedRequest

WHOLE = QueuedRequest(id="an id", prompt="é", max_tokens=300, reply_to="a.b", texts=["x"]).SerializeToString()
READ = Address(id="an id", reply_to="a.b")


@pytest.mark.parametrize(
    ("body", "address"),
    [
        (b'{"id": "an id", "promt": "x", "reply_to": "a.b"}', READ),
        (b'{"id": "an id", "replyTo": "a.b", "max_tokens": "many"}', READ),
        (b'{"id": 7, "reply_to": ["a.b"]}', Address()),
        (b'{"id": "an id", "reply_to": "\\ud800"}', Address(id="an id")),
        (b'{"reply_to": "a.b"', Address()),
        (b'["reply_to", "a.b"]', Address()),
        (b'{"reply_to": ' + b"[" * 100_000, Address()),
        (b'{"max_tokens": ' + b"9" * 10_000 + b', "reply_to": "a.b"}', Address()),
        (b'{"reply_to": "\xff"}', Address()),
        (b"", Address()),
    ],
)
def test_json_is_read_where_it_is_json(body: bytes, address: Address) -> None:
    """Whatever its other fields are; a value that is no text is none."""
    assert read_address(body, "") == read_address(body, "Application/JSON; charset=utf-8") == address


@pytest.mark.parametrize(
    ("body", "address"),
    [
        (WHOLE, READ),
        (WHOLE.replace("é".encode(), b"\xff\xfe"), READ),
        (WHOLE + b"\x13", READ),
        (WHOLE + b"\x12\x7fcut", READ),
        (b"\x29fixed-64" + b"\x2dfour" + WHOLE, READ),
        (b"\xff" * 40 + WHOLE, Address()),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + WHOLE, Address()),
        (b"\x28\x01" * MAX_FIELDS + WHOLE, Address()),
        (b"\x0a\x01\xff" + b"\x42\x03a.b", Address(reply_to="a.b")),
    ],
)
def test_protobuf_is_read_up_to_where_it_breaks(body: bytes, address: Address) -> None:
    """No length that lies, number without end or sheer count of fields goes further."""
    assert read_address(body, CONTENT_TYPE_PROTOBUF) == address


@given(body=st.binary(max_size=200), kind=st.sampled_from([CONTENT_TYPE_JSON, CONTENT_TYPE_PROTOBUF, "x"]))
def test_no_bytes_raise(body: bytes, kind: str) -> None:
    """What was read can be sent."""
    read = read_address(body, kind)
    assert (read.id + read.reply_to).encode() is not None
