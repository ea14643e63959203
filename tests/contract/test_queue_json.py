"""Requests as proto-JSON: what a producer with only a NATS client may write, and how it is told what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contract.errors import HeadraceError, InvalidRequest, MalformedMessage
from headrace.contract.queue_wire import (
    decode_request,
    decode_result,
    encode_request,
    encode_result,
    encode_token_event,
)
from headrace.contract.requests import ChatMessage, Limits, Request, check_request
from headrace.contract.subjects import CONTENT_TYPE_JSON, CONTENT_TYPE_PROTOBUF
from headrace.contract.values import GREEDY, Outcome, Sampling, Task, TokenChunk
from headrace.v1 import queue_pb2
from tests.contract import strategies as values
from tests.contract.trips import QUEUE, QUEUED_REQUESTS

SECRET = "Xylophon42"


def decode(body: Any, content_type: str = "") -> Request:
    """`body`: bytes, or what is written as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode_request(raw, content_type, QUEUE)


def problem(body: Any, content_type: str = "") -> str:
    with pytest.raises(HeadraceError) as refused:
        decode(body, content_type)
    assert isinstance(refused.value, MalformedMessage | InvalidRequest)
    return str(refused.value)


def test_a_prompt_is_enough() -> None:
    """All else has its default; the subject says the rest."""
    assert decode({"prompt": "hi"}) == Request(
        id="",
        tenant=QUEUE.tenant,
        model=QUEUE.model,
        priority=QUEUE.priority,
        prompt="hi",
        messages=(),
        sampling=GREEDY,
        max_tokens=0,
        stop=(),
        deadline_s=None,
        reply_to="",
        gateway="",
        task=Task.GENERATE,
    )


def test_every_field_can_be_written_in_both_ways() -> None:
    """camelCase as proto-JSON has it, snake_case as the proto has it; null is absent."""
    camel: dict[str, Any] = {
        "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "messages": [{"role": "user", "content": "hi"}, {"content": "ho"}],
        "sampling": {"temperature": 0.7, "topK": 5, "topP": 0.9, "repetitionPenalty": 1.1, "ignoreEnd": True},
        "maxTokens": 7,
        "stop": ["\n"],
        "deadline": "2030-01-02T03:04:05.5Z",
        "replyTo": "my.replies",
        "task": "TASK_EMBED",
        "prompt": None,
    }
    snake = camel | {
        "sampling": {
            "temperature": 0.7,
            "top_k": "5",
            "top_p": 0.9,
            "repetition_penalty": 1.1,
            "ignore_end": True,
        },
        "max_tokens": 7.0,
        "reply_to": "my.replies",
        "task": 2,
    }
    del snake["maxTokens"], snake["replyTo"]
    request = decode(camel)
    assert decode(snake) == request
    assert request.messages == (ChatMessage(role="user", content="hi"), ChatMessage(role="", content="ho"))
    assert request.sampling == Sampling(
        temperature=0.7, top_k=5, top_p=0.9, repetition_penalty=1.1, ignore_end=True
    )
    assert request.deadline_s == 1_893_553_445.5
    assert (request.max_tokens, request.reply_to, request.task) == (7, "my.replies", Task.EMBED)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(QUEUED_REQUESTS, st.booleans())
def test_json_and_protobuf_say_the_same(request: Request, snake: bool) -> None:
    """Whatever protobuf can carry, JSON can."""
    message = queue_pb2.QueuedRequest.FromString(encode_request(request))
    body = json_format.MessageToJson(message, preserving_proto_field_name=snake)
    assert decode(body.encode(), CONTENT_TYPE_JSON) == request


@pytest.mark.parametrize(
    ("content_type", "as_json"),
    [
        ("", True),
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/protobuf", False),
        (" application/protobuf ;x=y", False),
    ],
)
def test_the_content_type_says_how_to_read(content_type: str, as_json: bool) -> None:
    """JSON where nothing is said."""
    body = b'{"prompt": "hi"}' if as_json else queue_pb2.QueuedRequest(prompt="hi").SerializeToString()
    assert decode(body, content_type).prompt == "hi"


def test_another_content_type_is_refused() -> None:
    """With those that there are."""
    told = problem({"prompt": "hi"}, f"text/{SECRET}")
    assert told == "Content-Type: must be application/json or application/protobuf"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"promt": "hi"}, "body: there is no field promt; did you mean prompt?"),
        ({"max_token": 5}, "body: there is no field max_token; did you mean max_tokens?"),
        ({"prompt": 5}, "body: field prompt has a wrong value"),
        ({"max_tokens": "many"}, "body: field max_tokens has a wrong value"),
        ({"maxTokens": -1}, "body: field maxTokens has a wrong value"),
        ({"max_tokens": 2**32}, "body: field max_tokens has a wrong value"),
        ({"max_tokens": 1.5}, "body: field max_tokens has a wrong value"),
        ({"max_tokens": True}, "body: field max_tokens has a wrong value"),
        ({"sampling": {"temperature": "hot"}}, "body: field sampling has a wrong value"),
        ({"sampling": {"temprature": 1}}, "body: field sampling has a wrong value"),
        ({"sampling": {"temperature": 1e39}}, "body: field sampling has a wrong value"),
        ({"messages": "hi"}, "body: field messages has a wrong value"),
        ({"messages": ["hi"]}, "body: field messages has a wrong value"),
        ({"messages": [None]}, "body: field messages has a wrong value"),
        ({"stop": "x"}, "body: field stop has a wrong value"),
        ({"deadline": "tomorrow"}, "body: field deadline has a wrong value"),
        ({"task": "TASK_SING"}, "body: field task has a wrong value"),
        ({"task": 99}, "task: must be one of generate, embed, translate"),
        (b"{not json", "body: is not JSON (line 1 column 2)"),
        (b'{"prompt":\n "hi"', "body: is not JSON (line 2 column 6)"),
        (b"", "body: is not JSON (line 1 column 1)"),
        (b'{"prompt": "\xff\xfe"}', "body: is not a QueuedRequest in application/json"),
        (b"\xef\xbb\xbf{}", "body: is not JSON (line 1 column 1)"),
        (b"[5]", "body: is not a QueuedRequest as proto-JSON"),
        (b"null", "body: is not a QueuedRequest as proto-JSON"),
        (b'{"prompt": "a", "prompt": "b"}', "body: is not a QueuedRequest as proto-JSON"),
        (b'{"prompt": "\\ud800"}', "body: field prompt has a wrong value"),
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", "body: is not a QueuedRequest as proto-JSON"),
        (b'{"max_tokens": 1e999}', "body: field max_tokens has a wrong value"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(body: Any, told: str) -> None:
    """The field, or the line and column: enough to mend it."""
    assert problem(body) == told


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"messages":[', b'{"sampling":{"temperature":'])
def test_deep_nesting_is_refused(opening: bytes) -> None:
    """At any depth that a message can have: no recursion error leaves."""
    for depth in (30, 900, 100_000):
        assert problem(opening * depth).startswith("body: ")


def test_bytes_that_are_no_protobuf_are_refused() -> None:
    """Noise, a cut message, and text that is no UTF-8."""
    whole = queue_pb2.QueuedRequest(prompt="hi", stop=["x"]).SerializeToString()
    for body in (b"\xff\xff\xff", whole[:-1], b"\x12\x02\xff\xfe", b'{"prompt": "hi"}'):
        told = problem(body, CONTENT_TYPE_PROTOBUF)
        assert told == "body: is not a QueuedRequest in application/protobuf"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), "NaN", "Infinity"])
@pytest.mark.parametrize("field", ["temperature", "top_p", "repetition_penalty"])
def test_numbers_that_are_none_break_a_limit(field: str, number: float | str) -> None:
    """JSON can spell them; no sampling can use them."""
    with pytest.raises(HeadraceError) as refused:
        check_request(decode({"prompt": "hi", "sampling": {field: number}}), Limits(), 0.0)
    assert isinstance(refused.value, MalformedMessage | InvalidRequest)


# Nothing of the body is told.

FIELDS = [field.name for field in queue_pb2.QueuedRequest.DESCRIPTOR.fields]
SPELLINGS = [
    SECRET,
    f'no field named "{SECRET}" at ',
    f"Failed to parse {SECRET} field: ",
    f'Message type "a.b" has no field named "{SECRET}" at ',
    f"Failed to load JSON: x: line 1 column 1 (char 0). {SECRET}",
    f"{SECRET}: line 5551234 column 5551234 (char 5551234).",
    f"\ud800{SECRET}",
    f"@{SECRET}",
]
"""The secret, dressed up as the parser's own words."""
SECRETS = st.sampled_from(SPELLINGS)
KEYS = SECRETS | st.sampled_from([*FIELDS, "role", "content", "temperature", "top_k", "@type", "seconds"])
JSON = st.recursive(
    SECRETS | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
)


def tells_nothing(body: bytes, content_type: str) -> None:
    try:
        decode(body, content_type)
    except (MalformedMessage, InvalidRequest) as error:
        told = error
    else:
        return
    shown = f"{told} {told.args} {vars(told)} {told.__cause__!r}"
    assert SECRET not in shown
    assert "5551234" not in shown
    assert told.__suppress_context__ or told.__context__ is None, "a traceback would quote the body"


@settings(derandomize=True, deadline=None, max_examples=250)
@given(JSON | st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=2))
def test_no_error_tells_what_a_json_body_holds(body: Any) -> None:
    """Be it a value, an item of a list or a key, and however it is dressed up."""
    tells_nothing(json.dumps(body).encode(), "")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_error_tells_what_broken_json_holds(spelling: str) -> None:
    """Cut off, trailed by more, or with a key twice."""
    quoted = json.dumps(spelling)
    for text in (
        f'{{"prompt": {quoted}',
        f'{{"prompt": {quoted[:-1]}',
        f"{{{quoted}: 1, {quoted}: 2}}",
        f'{{"prompt": "x"}} {quoted}',
        f"{{{SECRET}: 1}}",
        SECRET,
        f'{{"prompt": "x", {SECRET}}}',
    ):
        tells_nothing(text.encode(), "")
        tells_nothing(text.encode(), CONTENT_TYPE_PROTOBUF)


@settings(derandomize=True)
@given(st.binary(max_size=20).map(lambda noise: noise + SECRET.encode() + noise))
def test_no_error_tells_what_broken_bytes_hold(body: bytes) -> None:
    """As JSON or as protobuf."""
    tells_nothing(body, "")
    tells_nothing(body, CONTENT_TYPE_PROTOBUF)


# What comes back.


@settings(derandomize=True, deadline=None, max_examples=50)
@given(values.OUTCOMES, st.booleans())
def test_a_result_is_read_as_it_was_written(outcome: Outcome, as_json: bool) -> None:
    """In the producer's own encoding."""
    body = encode_result(outcome, as_json=as_json)
    assert decode_result(body, CONTENT_TYPE_JSON if as_json else CONTENT_TYPE_PROTOBUF) == outcome


@pytest.mark.parametrize("content_type", [CONTENT_TYPE_JSON, CONTENT_TYPE_PROTOBUF])
@pytest.mark.parametrize("body", [b"\xff", b"{", b"[" * 100_000, b'{"kind": []}', b"null"])
def test_a_result_that_is_none_is_malformed(body: bytes, content_type: str) -> None:
    """Whatever lies on the subject, no other error leaves."""
    with pytest.raises(MalformedMessage):
        decode_result(body, content_type)


def test_events_name_every_field_of_a_chunk_in_json() -> None:
    """A consumer needs no defaults: an index of 0 and an empty text are written."""
    chunk = TokenChunk(first_index=0, token_ids=(7,), text="")
    assert json.loads(encode_token_event("ID", chunk, as_json=True)) == {
        "request_id": "ID",
        "tokens": {"first_index": 0, "token_ids": [7], "text": "", "text_lengths": []},
    }
