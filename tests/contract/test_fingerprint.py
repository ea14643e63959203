"""The fingerprint: equal for equal content, however it came; different for every difference that matters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from headrace.contract.fingerprint import fingerprint
from headrace.contract.queue_wire import decode_request, encode_request
from headrace.contract.requests import ChatMessage, Request
from headrace.contract.subjects import CONTENT_TYPE_JSON, CONTENT_TYPE_PROTOBUF, Queue
from headrace.contract.values import PayloadReference, Priority, Sampling, Task
from tests.contract.strategies import REQUESTS

BASE = Request(
    id="01ARZ3NDEKTSV4RRFFQ69G5FAV",
    tenant="t",
    model="m",
    priority=Priority.NORMAL,
    prompt="hi",
    sampling=Sampling(temperature=0.7, top_p=0.9),
    max_tokens=20,
    stop=("a", "b"),
)
QUEUE = Queue(model="m", priority=Priority.NORMAL, tenant="t")


def test_it_never_changes() -> None:
    """It is compared with those that earlier versions stored."""
    assert fingerprint(BASE) == "46da9a84efc36c185c6693c72936d0b15078a5bbb1f6fb570fb503ce1022dd37"


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ""},
        {"deadline_s": 5.0},
        {"gateway": "gw-1"},
        {"reply_to": "inbox"},
        {"keep": True},
        {"payload": PayloadReference(object="o", size_bytes=1, sha256="00")},
    ],
)
def test_the_way_to_the_consumer_does_not_count(changes: dict[str, Any]) -> None:
    """The same question asked from elsewhere, or later, has the same answer."""
    assert fingerprint(replace(BASE, **changes)) == fingerprint(BASE)


CHANGES: list[dict[str, Any]] = [
    {},
    {"tenant": "u"},
    {"model": "n"},
    {"priority": Priority.HIGH},
    {"task": Task.EMBED},
    {"prompt": "hi "},
    {"prompt": "", "messages": (ChatMessage(role="user", content="hi"),)},
    {
        "prompt": "",
        "messages": (ChatMessage(role="user", content="h"), ChatMessage(role="user", content="i")),
    },
    {"prompt": "", "messages": (ChatMessage(role="userh", content="i"),)},
    {"sampling": Sampling(temperature=0.7, top_p=0.8)},
    {"sampling": Sampling(temperature=0.8, top_p=0.9)},
    {"sampling": Sampling(temperature=0.7, top_p=0.9, top_k=1)},
    {"sampling": Sampling(temperature=0.7, top_p=0.9, repetition_penalty=1.1)},
    {"sampling": Sampling(temperature=0.7, top_p=0.9, ignore_end=True)},
    {"max_tokens": 21},
    {"max_tokens": 0},
    {"stop": ()},
    {"stop": ("ab",)},
    {"stop": ("b", "a")},
]


def test_every_difference_in_content_counts() -> None:
    """No two of these are the same request."""
    assert len({fingerprint(replace(BASE, **changes)) for changes in CHANGES}) == len(CHANGES)


@given(REQUESTS)
def test_it_is_the_same_on_both_sides_of_the_queue(request: Request) -> None:
    """The gateway takes it before it publishes, the router of what it pulled."""
    queue = Queue(model=request.model, priority=request.priority, tenant=request.tenant)
    pulled = decode_request(encode_request(request), CONTENT_TYPE_PROTOBUF, queue)
    assert fingerprint(pulled) == fingerprint(request)


def test_json_and_protobuf_ask_for_the_same() -> None:
    """A number written as 0.7 is the one that protobuf carries as a float."""
    body = b"""{"prompt": "hi", "sampling": {"temperature": 0.7, "top_p": 0.9}, "max_tokens": 20, "stop": ["a", "b"]}"""
    assert fingerprint(decode_request(body, CONTENT_TYPE_JSON, QUEUE)) == fingerprint(BASE)
