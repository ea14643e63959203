"""Hostile messages for the queues: any subject, any headers, any body."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from headrace.contract.subjects import CONTENT_TYPE_JSON, CONTENT_TYPE_PROTOBUF
from headrace.v1.queue_pb2 import QueuedRequest
from tests.hostile import strange
from tests.hostile.items import Queued
from tests.hostile.strange import SECRET, pick

TENANTS = ("default", "t-1", "t_2", "x" * 64)
MAX_BODY_BYTES = 1_000_000
"""The broker takes more, and ends the connection of who sends more than that."""
_END = b"\r\n\r\n"


def queued(rng: Random) -> Queued:
    """One message. Most have one or two faults, so that each check is reached; some have none."""
    as_json = rng.random() < 0.6
    body, content_type = _body(rng, _fields(rng), as_json)
    body = body[:MAX_BODY_BYTES]
    if any(
        strange.commands(read.prompt, ((m.role, m.content) for m in read.messages)) for read in _read(body)
    ):
        body = b""
    block = _block(rng, content_type)
    return Queued(subject=_subject(rng), body=body, block=block, ids=_ids(body, block))


def _ids(body: bytes, block: bytes | None) -> tuple[str, ...]:
    """Every id that a reader could find in the message, whether it is a good one or not."""
    found = [value.strip() for value in re.findall(rb"(?i)nats-msg-id:([^\r\n]*)", block or b"")]
    ids = [value.decode("utf-8", "replace") for value in found]
    ids += [read.id for read in _read(body)]
    return tuple(sorted({value for value in ids if value}))


def _read(body: bytes) -> list[QueuedRequest]:
    """The request that the body is as protobuf, and as JSON, where it is."""
    found = []
    for read in (QueuedRequest.FromString, _from_json):
        try:
            found.append(read(body))
        except (DecodeError, json_format.ParseError, UnicodeDecodeError, RecursionError):
            continue
    return found


def _from_json(body: bytes) -> QueuedRequest:
    return json_format.Parse(body, QueuedRequest(), ignore_unknown_fields=True)


def _subject(rng: Random) -> bytes:
    model, priority, tenant = "fake", rng.choice(("realtime", "high", "normal", "batch")), rng.choice(TENANTS)
    if rng.random() < 0.7:
        return f"hr.v1.req.{model}.{priority}.{tenant}".encode()
    tail: bytes = pick(
        rng,
        (
            lambda r: f"unknown-{r.randrange(40)}.normal.default".encode(),
            lambda r: f"{model}.normal.tenant-{r.randrange(40)}".encode(),
            lambda _: f"{model}.urgent.default".encode(),
            lambda _: f"{model}.NORMAL.default".encode(),
            lambda _: model.encode(),
            lambda _: f"{model}.normal".encode(),
            lambda _: f"{model}.normal.default.more".encode(),
            lambda r: b"a." * r.choice((5, 200, 1500)) + b"a",
            lambda r: b"m" * r.choice((65, 300, 3500)) + b".normal.default",
            lambda _: b"*.normal.default",
            lambda _: model.encode() + b".*.*",
            lambda _: b">",
            lambda _: model.encode() + b".>",
            lambda _: b"\xff\xfe.normal.default",
            lambda _: b"fake.normal.\xed\xa0\x80",
            lambda _: b"a\x0bb.normal.default",
            lambda _: b"a\x00b.normal.default",
            lambda _: b"\x1b[31m.normal.default",
            lambda _: "日本語.normal.default".encode(),
            lambda r: bytes(
                r.choice(b"abcXYZ019_-!\"#$%&'()+/:;<=?@[]^`{|}~") for _ in range(r.randint(1, 40))
            ),
        ),
    )
    return b"hr.v1.req." + tail


def _fields(rng: Random) -> dict[str, Any]:
    """A request as proto-JSON has it, of which one or two fields are strange."""
    fields: dict[str, Any] = {"prompt": f"{SECRET} {rng.randrange(100)}", "max_tokens": rng.randint(1, 12)}
    if rng.random() < 0.3:
        fields["messages"] = [{"role": "user", "content": fields.pop("prompt")}]
    if rng.random() < 0.3:
        fields["id"] = rng.choice((strange.request_id, strange.ulid))(rng)
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        name, value = _strange_field(rng)
        fields[name] = value
    return fields


def _strange_field(rng: Random) -> tuple[str, Any]:
    def number() -> Any:
        return rng.choice(strange.NUMBERS)

    def text() -> Any:
        return pick(rng, strange.TEXTS)

    def message() -> Any:
        role = rng.choice(("", "user", "r" * 65, "日本", SECRET, "system", "\x03"))
        return rng.choice(({"role": role, "content": text()}, {}, None, SECRET, [], {"role": 1}))

    makers: dict[str, Any] = {
        "id": lambda: pick(rng, strange.ODD_IDS),
        "prompt": text,
        "messages": lambda: rng.choice(
            (
                [message() for _ in range(rng.choice((0, 1, 3)))],
                [{"role": "user", "content": SECRET}] * 1100,
                text(),
                number(),
            )
        ),
        "max_tokens": number,
        "sampling": lambda: rng.choice(
            (
                {rng.choice(("temperature", "top_k", "top_p", "repetition_penalty", "ignore_end")): number()},
                number(),
                text(),
            )
        ),
        "stop": lambda: rng.choice(
            (
                [text() for _ in range(rng.choice((1, 3, 17)))],
                ["\x00\x01\x02", "\r\n", "\ufeff", "e"],
                ["e" * rng.choice((1, 256, 257))],
                [""],
                text(),
                number(),
            )
        ),
        "deadline": lambda: rng.choice(strange.DEADLINES),
        "reply_to": lambda: rng.choice(strange.REPLY_SUBJECTS),
        "gateway": lambda: rng.choice(("gw-1", "", "no such gateway", SECRET, "x" * 5000, "\n")),
        "task": lambda: rng.choice(("TASK_EMBED", "TASK_TRANSLATE", "NOPE", 99, -1, 2**31, SECRET)),
        "payload": lambda: rng.choice(
            ({"object": SECRET}, {"object": "../x", "size_bytes": "1"}, {"size_bytes": number()}, {}, text())
        ),
        "extra": text,
    }
    name = rng.choice(list(makers))
    return name, makers[name]()


def _body(rng: Random, fields: dict[str, Any], as_json: bool) -> tuple[bytes, str]:
    """The body, and the type that fits it."""
    if as_json:
        raw = json.dumps(fields).encode()
        damaged = (strange.odd_json, strange.deep_json, lambda r: strange.broken(r, raw))
        return (raw if rng.random() < 0.7 else pick(rng, damaged)), CONTENT_TYPE_JSON
    message = QueuedRequest()
    for name, value in fields.items():
        try:
            json_format.ParseDict({name: value}, message)
        except (json_format.ParseError, ValueError, OverflowError, TypeError):
            continue  # what JSON alone can say
    raw = message.SerializeToString()
    return (raw if rng.random() < 0.6 else strange.broken(rng, raw)), CONTENT_TYPE_PROTOBUF


def _block(rng: Random, content_type: str) -> bytes | None:
    """A header block, or what stands in the place of one."""
    if content_type == CONTENT_TYPE_JSON and rng.random() < 0.3:
        return None
    if rng.random() < 0.08:
        return _no_block(rng)
    if rng.random() < 0.1:
        content_type = rng.choice(strange.CONTENT_TYPES)
    lines = [f"Content-Type: {content_type}".encode()]
    lines += [_line(rng) for _ in range(rng.choice((0, 0, 1, 1, 2)))]
    rng.shuffle(lines)
    return b"NATS/1.0\r\n" + b"\r\n".join(lines) + _END


def _line(rng: Random) -> bytes:
    def message_id() -> str:
        made: str = pick(rng, (strange.request_id, strange.ulid, *strange.ODD_IDS))
        return made

    made: str | bytes = pick(
        rng,
        (
            lambda _: f"Nats-Msg-Id: {message_id()}",
            lambda _: f"Nats-Msg-Id: {message_id()}\r\nNats-Msg-Id: {message_id()}",
            lambda _: f"nats-msg-id: {message_id()}",
            lambda r: f"traceparent: {r.choice(strange.TRACEPARENTS)}",
            lambda r: f"traceparent: {r.choice(strange.TRACEPARENTS)}\r\ntracestate: {SECRET}" + "=x," * 300,
            lambda _: f"ce-id: {SECRET}\r\nce-source: //x\r\nce-specversion: 9\r\nce-type: \x01",
            lambda _: f"X-{SECRET}: {SECRET}",
            lambda _: b"X-Bytes: \xff\xfe\xfd",
            lambda _: b"\xff\xfe: x",
            lambda _: b"no colon at all",
            lambda _: b": no name",
            lambda _: b"A B: blank",
            lambda _: b"X: a\nNats-Msg-Id: forged",
            lambda _: b"X: a\rY: b",
            lambda r: b"X: " + b"y" * r.choice((4_000, 60_000)),
            lambda _: b"\r\n".join(b"X-%d: y" % n for n in range(500)),
            lambda _: "Nats-Expected-Stream: ANOTHER",
            lambda _: "Nats-Expected-Last-Sequence: x",
            lambda _: "Nats-Expected-Last-Msg-Id: x",
            lambda _: "Nats-Rollup: all",
            lambda _: "Nats-TTL: 1s",
            lambda _: "Nats-Schedule: @every 1s",
            lambda _: "Nats-Required-Api-Level: 99",
            lambda _: "Nats-Batch-Id: x\r\nNats-Batch-Sequence: 1\r\nNats-Batch-Commit: 1",
            lambda _: "Nats-Incr: +1",
            lambda _: "Nats-Sequence: 1\r\nNats-Subject: hr.v1.req.fake.normal.default",
            lambda _: "Status: 408\r\nNats-Pending-Messages: -5",
            lambda _: "Headrace-Replay-Of: x",
            lambda _: "KV-Operation: DEL",
        ),
    )
    return made.encode() if isinstance(made, str) else made


def _no_block(rng: Random) -> bytes:
    return rng.choice(
        (
            b"",
            b"NATS/1.0",
            b"NATS/1.0\r\n",
            b"NATS/1.0\r\n\r\n",
            b"NATS/1.0 503\r\n\r\n",
            b"NATS/1.0 408 Request Timeout\r\n\r\n",
            b"NATS/1.0 100 Idle Heartbeat\r\nNats-Consumer-Stalled: x\r\n\r\n",
            b"NATS/1.0 \xff\xff\xff\r\n\r\n",
            b"NATS/9.9\r\nA: b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"\xff" * 30,
            b"\r\n\r\n",
            b"NATS/1.0\r\nA: b",
        )
    )
