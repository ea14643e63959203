"""Hostile peers: garbage on the internal streams, on subjects of core NATS, and at the TCP ports."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from headrace.v1 import router_pb2 as pb
from tests.hostile import strange
from tests.hostile.items import Called, Said, Sent
from tests.hostile.strange import SECRET, pick


def peer(rng: Random) -> Called:
    """A worker or gateway that speaks nonsense; sometimes well enough to be let in."""
    method, message = rng.choice((("Work", _worker_message), ("Deliver", _gateway_message)))
    first = message(rng, join=rng.random() < 0.8)
    messages = [first, *(message(rng, join=rng.random() < 0.1) for _ in range(rng.choice((0, 1, 3, 10))))]
    raw = [one.SerializeToString() for one in messages]
    if rng.random() < 0.5:
        index = rng.randrange(len(raw))
        raw[index] = strange.broken(rng, raw[index])
    return Called(
        target="router",
        path=f"/headrace.v1.RouterService/{method}",
        messages=tuple(raw),
        streams=(True, True),
        leaves_s=rng.choice((0.0, 0.01, 0.2)),
    )


def _worker_message(rng: Random, *, join: bool) -> pb.WorkerMessage:
    message = pb.WorkerMessage(draining=rng.random() < 0.1)
    if join:
        told = message.join
        told.worker_id = rng.choice(("evil-1", "evil-2", "", SECRET + "\n", "w" * 500))
        told.name = rng.choice(("evil", "evil", "evil", SECRET + " ", "n" * 500))
        told.lanes = rng.choice((1, 1, 1, 4, 0, 1025, 2**32 - 1))
        told.max_batch = rng.choice((1, 1, 1, 4, 0, 2**32 - 1))
        told.device.kind = rng.choice(("cpu", "cpu", "cpu", "", SECRET))
        # Never the model's true version: it would be given work, and answer it with nonsense that nobody can tell.
        told.models.add(name=rng.choice(("fake", "fake", "other", SECRET + " ")), version="another")
        if rng.random() < 0.2:
            told.labels[SECRET] = SECRET * 50
    for _ in range(rng.choice((0, 1, 5))):
        entry = message.progress.add(assignment=rng.choice((rng.randrange(50), rng.getrandbits(63))))
        entry.tokens.first_index = rng.choice((0, 1, 2**32 - 1))
        entry.tokens.token_ids.extend(rng.choices(range(2**32), k=rng.choice((0, 1, 5))))
        entry.tokens.text = SECRET
        if rng.random() < 0.3:
            entry.tokens.text_lengths.extend(rng.choices((0, 1, 2**32 - 1), k=rng.randint(1, 4)))
        if rng.random() < 0.5:
            entry.end.finish_reason = rng.choice((0, 1, 3, 99))  # type: ignore[assignment]
            entry.end.cancelled = rng.random() < 0.3
            entry.end.error.message = SECRET
    for _ in range(rng.choice((0, 1, 3))):
        message.ended.add(batch=rng.randrange(50), lane=rng.choice((0, 1, 2**32 - 1)))
    return message


def _gateway_message(rng: Random, *, join: bool) -> pb.GatewayMessage:
    message = pb.GatewayMessage(
        left=[pick(rng, (strange.request_id, *strange.ODD_IDS)) for _ in range(rng.choice((0, 0, 3)))]
    )
    if join:
        message.join.gateway_id = rng.choice(("evil", "evil-2", "", SECRET + " ", "g" * 500))
        for _ in range(rng.choice((0, 1, 20))):
            held = message.join.held.add(request_id=pick(rng, (strange.request_id, *strange.ODD_IDS)))
            held.tenant = rng.choice(("default", "", "*", ">", "a b", SECRET + " ", "x" * 300))
            held.token_ids.extend(rng.choices(range(2**32), k=rng.choice((0, 1, 500))))
            held.text = SECRET
            held.first_index = rng.choice((0, 0, 2**32 - 1))
            if rng.random() < 0.2:
                held.text_lengths.extend(rng.choices((0, 1, 2**32 - 1), k=rng.randint(1, 4)))
    return message


def said(rng: Random) -> Said:
    """A word on a subject that the processes listen to."""
    subject: bytes = pick(
        rng,
        (
            lambda r: f"hr.v1.cancel.default.{strange.request_id(r)}".encode(),
            lambda r: b"hr.v1.cancel." + _tail(r),
            lambda r: f"hr.v1.claim.default.{strange.request_id(r)}".encode(),
            lambda r: b"hr.v1.claim." + _tail(r),
            lambda _: b"hr.v1.admin.status",
            lambda r: b"hr.v1.admin." + _tail(r),
            lambda r: b"hr.v1.seen." + _tail(r),
            lambda r: b"hr.v1.seen.fake.normal.default",
            lambda r: b"hr.v1.tok." + _tail(r),
            lambda r: f"hr.v1.res.default.{strange.request_id(r)}".encode(),
            lambda r: b"hr.v1.res." + _tail(r),
            lambda r: b"hr.v1.dead." + _tail(r),
            lambda r: b"$KV.headrace_members.router.evil-%d" % r.randrange(5),
            lambda r: b"$KV.headrace_members." + _tail(r),
        ),
    )
    body = _member(rng) if subject.startswith(b"$KV") else strange.broken(rng, SECRET.encode())
    blocks = (None, None, b"garbage", b"NATS/1.0\r\nHeadrace-Outcome: x\r\n\r\n", b"NATS/1.0 503\r\n\r\n")
    return Said(subject=subject, body=body, block=rng.choice(blocks))


def _tail(rng: Random) -> bytes:
    return rng.choice(
        (b"x", b"a.b.c.d.e", b"\xff.\xfe", b"a\x0bb.c", b"default.*", b">", b"x" * 3000, "日本.語".encode())
    )


def _member(rng: Random) -> bytes:
    """What a router says of itself, or nearly. Its address answers nobody."""
    odd: tuple[Any, ...] = (
        None,
        1,
        [],
        {},
        SECRET,
        "x" * 5000,
        "\x00",
        "127.0.0.1:1",
        "::",
        "unix:/x",
        "a,b:1",
    )
    told = {
        "id": "evil",
        "address": rng.choice(odd),
        "started": rng.choice((0, -1, 1e308, 10**400, "x", None)),
    }
    return rng.choice(
        (
            json.dumps(told).encode(),
            json.dumps(told).encode(),
            b"",
            b"null",
            b"[" * 100_000,
            b"\xff",
            b"9" * 5000,
        )
    )


def sent(rng: Random) -> Sent:
    """Bytes that no client of that server sends."""
    target = rng.choice(("gateway", "router", "nats"))
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    raw: bytes = pick(
        rng,
        (
            lambda r: r.randbytes(r.choice((1, 100, 5_000))),
            lambda _: f"GET /{SECRET} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
            lambda _: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
            lambda _: preface,
            lambda r: preface + r.randbytes(r.choice((9, 100, 3_000))),
            lambda r: preface + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + _frames(r),
            lambda _: b"CONNECT {}\r\nPUB \r\nSUB\r\n",
            lambda _: b"CONNECT " + b"{" * 3_000 + b"\r\n",
            lambda _: b"PUB a 999999999999\r\n",
            lambda _: b"",
        ),
    )
    return Sent(target=target, raw=raw, half_closes=rng.random() < 0.3)


def _frames(rng: Random) -> bytes:
    """HTTP/2 frames of all types, with lengths that are true."""
    out = b""
    for _ in range(rng.randint(1, 8)):
        payload = rng.randbytes(rng.choice((0, 4, 8, 60)))
        head = len(payload).to_bytes(3, "big") + bytes((rng.randrange(12), rng.randrange(256)))
        out += head + rng.choice((0, 1, 3, 2**31 - 1)).to_bytes(4, "big") + payload
    return out
