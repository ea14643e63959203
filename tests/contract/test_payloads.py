"""Names of objects, and a request in two parts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given

from headrace.contract.errors import InvalidRequest, MalformedMessage
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
    encode_reference,
    join_request,
    without_content,
)
from headrace.contract.queue_wire import decode_request, encode_request
from headrace.contract.requests import Request
from headrace.contract.subjects import CONTENT_TYPE_JSON, CONTENT_TYPE_PROTOBUF, Queue
from headrace.contract.values import PayloadReference, Priority
from tests.contract.strategies import REQUESTS

QUEUE = Queue(model="m", priority=Priority.NORMAL, tenant="blue")
REFERENCE = PayloadReference(object="blue/req/x", size_bytes=1, sha256="00")


def test_a_name_is_its_tenants_and_used_once() -> None:
    """Each try to send a request, and each router that stores an outcome, has an object of its own."""
    names = [new_request_object("blue", "id") for _ in range(2)]
    assert names[0] != names[1]
    assert all(is_request_object(name, "blue") and not is_request_object(name, "red") for name in names)
    result = new_result_object("blue", "id")
    assert is_result_object(result, "blue")
    assert not is_request_object(result, "blue"), "no request can have an outcome removed"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x",
        "red/req/x",
        "blue/res/x",
        "blue/req/",
        "blue/req/../../red/req/x",
        "blue/req/a/b",
        "blue/req/*",
        "blue/req/a.b",
        "blue/req/ä",
        "blue/req/x\n",
        "/blue/req/x",
        "bluer/req/x",
        "blue/req/" + "x" * 129,
    ],
)
def test_no_other_name_can_be_referred_to(name: str) -> None:
    """Neither another tenant's, nor a path, nor a wildcard; the error says what it must be."""
    with pytest.raises(InvalidRequest, match=r"must be blue/req/ and 1 to 128 letters") as caught:
        check_request_object(name, "blue")
    assert caught.value.field == "payload"


def json_body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


PAYLOAD = {"object": "blue/req/x", "size_bytes": 1, "sha256": "00"}


@given(REQUESTS)
def test_a_request_of_two_parts_is_the_whole(request: Request) -> None:
    """What the gateway takes apart comes together again, whatever it holds; it still says where its object is."""
    queue = Queue(model=request.model, priority=request.priority, tenant=request.tenant)
    body = encode_request(without_content(request, REFERENCE))
    whole = decode_whole_request(body, encode_content(request), CONTENT_TYPE_PROTOBUF, queue)
    expected = decode_request(encode_request(request), CONTENT_TYPE_PROTOBUF, queue)
    assert whole == replace(expected, payload=REFERENCE)


def test_the_messages_fields_come_before_the_objects() -> None:
    """A list is replaced, not added to; what the message leaves out is the object's."""
    content = json_body(
        prompt="object", stop=["a", "b"], max_tokens=7, deadline="2026-11-24T12:00:00Z", reply_to="mine"
    )
    body = json_body(payload=PAYLOAD, stop=["c"], max_tokens=9, id="id1")
    whole = decode_whole_request(body, content, "", QUEUE)
    assert (whole.id, whole.prompt, whole.stop, whole.max_tokens) == ("id1", "object", ("c",), 9)
    assert (whole.reply_to, whole.deadline_s) == ("mine", 1_795_521_600.0)


def test_the_whole_message_refers_to_nothing() -> None:
    """It is what would have been sent if it were not too large, in its format."""
    body = json_body(payload=PAYLOAD, id="id1")
    joined = join_request(body, json_body(prompt="größer"), CONTENT_TYPE_JSON)
    assert json.loads(joined) == {"id": "id1", "prompt": "größer"}


def test_a_message_that_is_all_reference() -> None:
    """Id and reference, in either format; the object may repeat the id."""
    for content_type in (CONTENT_TYPE_JSON, CONTENT_TYPE_PROTOBUF):
        body = encode_reference("id1", REFERENCE, content_type)
        read = decode_request(body, content_type, QUEUE)
        assert (read.id, read.payload, read.prompt) == ("id1", REFERENCE, "")
    whole = decode_whole_request(
        encode_reference("id1", REFERENCE, ""), json_body(id="id1", prompt="p"), "", QUEUE
    )
    assert whole.prompt == "p"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"not json", r"the object: is not JSON"),
        (b"", r"the object: is not JSON"),
        (json_body(promt="x"), r"the object: there is no field promt; did you mean prompt\?"),
        (json_body(payload=PAYLOAD), "the object refers to another one"),
        (json_body(id="other", prompt="p"), "the object holds an id; an id belongs in the message"),
        (b"[" * 3000, "the object: is not a QueuedRequest"),
    ],
)
def test_an_object_that_is_no_request_is_the_payloads_fault(content: bytes, problem: str) -> None:
    """The field is named, and nothing of the object's content is quoted."""
    with pytest.raises(InvalidRequest, match=problem) as caught:
        decode_whole_request(json_body(payload=PAYLOAD), content, "", QUEUE)
    assert caught.value.field == "payload"


def test_an_object_cannot_name_a_gateway() -> None:
    """Only gateways do, in their messages."""
    whole = decode_whole_request(json_body(payload=PAYLOAD), json_body(gateway="gw-1", prompt="p"), "", QUEUE)
    assert whole.gateway == ""


def test_a_message_that_is_none_is_not_the_objects_fault() -> None:
    """As for any other message."""
    with pytest.raises(MalformedMessage):
        decode_whole_request(b"x", json_body(prompt="p"), "", QUEUE)
