"""Objects in the bucket of payloads, on a real server: as other clients have them, bounded, and gone in time."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.api import ObjectMeta, ObjectMetaOptions

from headrace.contract.errors import InvalidRequest, Overloaded, Unavailable
from headrace.contract.subjects import FILES_BUCKET, PAYLOADS_BUCKET
from headrace.contract.values import PayloadReference
from headrace.runtime.nats_connection import connect
from headrace.runtime.nats_layout import ensure_layout
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.payloads import Payloads
from headrace.runtime.settings import NatsSettings, Settings
from tests.conftest import SettingsFor
from tests.runtime.nats_stub import nats_stub

pytestmark = pytest.mark.integration

STREAM = f"OBJ_{PAYLOADS_BUCKET}"
SMALL = 64 * 1024
PIECE = SMALL - 1024
NAME = "default/req/one"


@pytest.fixture
def fresh_nats(tmp_path: Path) -> Iterator[EmbeddedNats]:
    """A server whose largest message is small."""
    with EmbeddedNats(NatsSettings(port=0, store_dir=tmp_path / "nats", max_payload_bytes=SMALL)) as server:
        yield server


@pytest.fixture
def settings(fresh_nats: EmbeddedNats, settings_for: SettingsFor) -> Settings:
    return settings_for(fresh_nats, **{"queues.payload_max_bytes": 4 * 1024 * 1024})


@pytest.fixture
async def nc(settings: Settings) -> AsyncIterator[Client]:
    async with connect(settings.nats, "test") as client:
        await ensure_layout(client, settings)
        yield client


@pytest.fixture
def payloads(nc: Client) -> Payloads:
    return Payloads(nc, max_bytes=3 * 1024 * 1024, answer_s=5.0)


async def left(nc: Client) -> dict[str, int]:
    """All messages of the bucket, by subject."""
    info = await nc.jetstream().stream_info(STREAM, subjects_filter=">")
    return dict(info.state.subjects or {})


def some_bytes(size: int) -> bytes:
    return (b"0123456789" * (size // 10 + 1))[:size]


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 3 * 1024 * 1024])
async def test_what_was_put_is_there_until_it_is_removed(nc: Client, payloads: Payloads, size: int) -> None:
    """Of any size around a piece, and no message stays of it."""
    content = some_bytes(size)
    reference = await payloads.put(NAME, content)
    assert reference.size_bytes == size
    assert reference.sha256 == hashlib.sha256(content).hexdigest()
    assert await payloads.get(reference) == content
    await payloads.delete(NAME)
    assert await left(nc) == {}
    with pytest.raises(InvalidRequest, match="there is no object 'default/req/one' in the bucket"):
        await payloads.get(reference)
    await payloads.delete(NAME)  # not there is no error


async def test_more_pieces_than_come_in_one_answer(
    nc: Client, payloads: Payloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are asked for page by page."""
    monkeypatch.setattr("headrace.runtime.payloads.PIECE_BYTES", 1000)
    content = some_bytes(300_500)
    assert await payloads.get(await payloads.put(NAME, content)) == content


async def test_other_clients_read_and_remove_ours(nc: Client, payloads: Payloads) -> None:
    """It is an object like any other to the client library."""
    content = some_bytes(200_000)
    await payloads.put(NAME, content)
    store = await nc.jetstream().object_store(PAYLOADS_BUCKET)
    found = await store.get(NAME)
    assert found.data == content
    assert (found.info.name, found.info.size, found.info.chunks) == (NAME, 200_000, 4)
    await store.delete(NAME)
    with pytest.raises(InvalidRequest, match="there is no object"):
        await payloads.get(PayloadReference(object=NAME, size_bytes=200_000, sha256=""))
    await payloads.delete(NAME)


async def put_by_library(nc: Client, content: bytes, name: str = NAME) -> PayloadReference:
    store = await nc.jetstream().object_store(PAYLOADS_BUCKET)
    small_pieces = ObjectMeta(name=name, options=ObjectMetaOptions(max_chunk_size=10_000))
    await store.put(name, content, meta=small_pieces)
    return PayloadReference(
        object=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest().upper()
    )


async def test_we_read_and_remove_other_clients(nc: Client, payloads: Payloads) -> None:
    """In pieces of any size, the SHA-256 in either case; one that was put again is the new one."""
    await put_by_library(nc, b"old")
    content = some_bytes(200_000)
    reference = await put_by_library(nc, content)
    assert await payloads.get(reference) == content
    await payloads.delete(NAME)
    assert await left(nc) == {}


async def test_what_is_not_what_the_reference_says_is_refused(nc: Client, payloads: Payloads) -> None:
    """Each with what is wrong."""
    good = await payloads.put(NAME, some_bytes(100_000))
    for changes, problem in (
        ({"sha256": "ab" * 32}, "SHA-256 is not the one"),
        ({"sha256": ""}, "SHA-256 is not the one"),
        ({"size_bytes": 7}, "the object has 100000 bytes, size_bytes says 7"),
        ({"size_bytes": 2**63}, "limits.max_payload_bytes allows 3145728"),
        ({"object": "default/req/two"}, "there is no object"),
    ):
        with pytest.raises(InvalidRequest, match=problem) as caught:
            await payloads.get(replace(good, **changes))
        assert caught.value.field == "payload"


async def test_a_lost_piece_is_noticed(nc: Client, payloads: Payloads) -> None:
    """And not waited for without end."""
    reference = await payloads.put(NAME, some_bytes(200_000))
    js = nc.jetstream()
    first = (await js.stream_info(STREAM)).state.first_seq
    await js.delete_msg(STREAM, first + 1)
    with pytest.raises(InvalidRequest, match="the object is not complete"):
        await payloads.get(reference)


async def test_pieces_that_come_late_are_waited_for(nc: Client, payloads: Payloads) -> None:
    """A replica of the stream may be behind its leader."""
    content = some_bytes(1000)
    reference = await payloads.put(NAME, content)
    js = nc.jetstream()
    piece = next(subject for subject in await left(nc) if ".C." in subject)
    await js.purge_stream(STREAM, subject=piece)
    reading = asyncio.create_task(payloads.get(reference))
    await asyncio.sleep(0.1)  # by then it has looked for the first time
    await js.publish(piece, content)
    assert await reading == content


async def test_too_large_is_refused_before_anything_is_written(nc: Client, payloads: Payloads) -> None:
    """With both sizes."""
    with pytest.raises(InvalidRequest, match=r"is 3145729 bytes; limits.max_payload_bytes allows 3145728"):
        await payloads.put(NAME, some_bytes(3 * 1024 * 1024 + 1))
    assert await left(nc) == {}


async def test_a_full_bucket_refuses_and_keeps_what_it_has(nc: Client, payloads: Payloads) -> None:
    """With a time to try again; of what was refused no piece stays, and when there is room it goes in."""
    kept = await payloads.put(NAME, some_bytes(3 * 1024 * 1024))
    before = await left(nc)
    with pytest.raises(Overloaded, match=r"is full \(queues.payload_max_bytes\)") as caught:
        await payloads.put("default/req/two", some_bytes(2 * 1024 * 1024))
    assert caught.value.retry_after_s > 0
    assert await left(nc) == before
    assert len(await payloads.get(kept)) == kept.size_bytes
    await payloads.delete(NAME)
    await payloads.put("default/req/two", some_bytes(2 * 1024 * 1024))


async def test_a_put_that_is_cancelled_leaves_nothing(nc: Client, payloads: Payloads) -> None:
    """A client that goes away while its request is written costs no room."""
    cancelled = 0
    for steps in range(1, 40, 3):
        putting = asyncio.create_task(payloads.put(NAME, some_bytes(1024 * 1024)))
        for _ in range(steps):
            await asyncio.sleep(0)
        await asyncio.sleep(steps / 10_000)
        putting.cancel()
        try:
            await putting
        except asyncio.CancelledError:
            cancelled += 1
        else:  # it came too late, or the client library's wait ended at the same moment and kept it for itself
            await payloads.delete(NAME)
        assert await left(nc) == {}
    assert cancelled > 3


async def test_an_object_goes_with_its_age(nc: Client, payloads: Payloads) -> None:
    """All of it, though nobody removes it; what has no age of its own stays."""
    await payloads.put("default/res/one", some_bytes(200_000), keep_s=0.5)
    other = await payloads.put(NAME, b"stays")
    async with asyncio.timeout(10):
        while len(await left(nc)) > 2:  # noqa: ASYNC110 (JetStream tells of no message that goes by age)
            await asyncio.sleep(0.1)
    assert await payloads.get(other) == b"stays"


async def test_the_bucket_has_an_age_for_what_nobody_removes(
    fresh_nats: EmbeddedNats, settings_for: SettingsFor
) -> None:
    """Half an object, or one that no message refers to."""
    ages = {f"queues.{name}_max_age_s": 1.0 for name in ("result", "dead", "payload")}
    settings = settings_for(fresh_nats, **ages)
    async with connect(settings.nats, "test") as nc:
        await ensure_layout(nc, settings)
        await nc.jetstream().publish(f"$O.{PAYLOADS_BUCKET}.C.half", b"a piece")
        await Payloads(nc, max_bytes=1000, answer_s=5.0).put(NAME, b"x")
        async with asyncio.timeout(10):
            while await left(nc):  # noqa: ASYNC110 (JetStream tells of no message that goes by age)
                await asyncio.sleep(0.1)


def described(name: str, **fields: Any) -> tuple[str, bytes]:
    subject = f"$O.{PAYLOADS_BUCKET}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"
    return subject, json.dumps({"name": name, "size": 5, **fields}).encode()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"nuid": ">"}, "description in the bucket is none"),
        ({"nuid": "*"}, "description in the bucket is none"),
        ({"nuid": "a.b"}, "description in the bucket is none"),
        ({"nuid": 7}, "description in the bucket is none"),
        ({}, "description in the bucket is none"),
        ({"nuid": "x", "size": -5}, "description in the bucket is none"),
        ({"nuid": "x", "size": "5"}, "description in the bucket is none"),
        ({"nuid": "x", "options": 5}, "description in the bucket is none"),
        ({"nuid": "x", "options": {"link": {"bucket": FILES_BUCKET, "name": "a"}}}, "is a link"),
        ({"nuid": "x", "deleted": True}, "there is no object"),
        ({"nuid": "x"}, "not complete"),
    ],
)
async def test_a_description_that_lies_gets_nothing_read_and_nothing_removed(
    nc: Client, payloads: Payloads, fields: dict[str, Any], problem: str
) -> None:
    """No wildcard, no link into another bucket, no piece that is not there: and no other object goes with it."""
    other = await payloads.put("red/req/secret", b"other")
    await nc.jetstream().publish(*described(NAME, **fields))
    with pytest.raises(InvalidRequest, match=problem):
        await payloads.get(PayloadReference(object=NAME, size_bytes=5, sha256=other.sha256))
    await payloads.delete(NAME)
    assert await payloads.get(other) == b"other"


async def test_what_is_no_description_at_all(nc: Client, payloads: Payloads) -> None:
    """Whoever may write to the bucket may write anything."""
    for body in (b"", b"[]", b"null", b"{", b'"x"', b"[" * 5000, b"\xff"):
        await nc.jetstream().publish(described(NAME)[0], body)
        with pytest.raises(InvalidRequest, match="description in the bucket is none"):
            await payloads.get(PayloadReference(object=NAME, size_bytes=5, sha256=""))
        await payloads.delete(NAME)


async def test_without_the_bucket_it_is_unavailable(nc: Client, payloads: Payloads) -> None:
    """An operator's accident: what the bucket held is not known to be gone."""
    reference = await payloads.put(NAME, b"x")
    await nc.jetstream().delete_stream(STREAM)
    with pytest.raises(Unavailable, match="no bucket headrace_payloads"):
        await payloads.get(reference)
    with pytest.raises(Unavailable, match="no bucket headrace_payloads"):
        await payloads.put(NAME, b"x")
    await payloads.delete(NAME)


async def test_a_broker_that_does_not_answer_is_given_up() -> None:
    """After the set time for each answer."""
    async with nats_stub() as stub, connect(NatsSettings(url=stub.url), "test") as nc:
        payloads = Payloads(nc, max_bytes=1000, answer_s=0.1)
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable, match="did not answer"):
                await payloads.put(NAME, b"x")
            with pytest.raises(Unavailable, match="did not answer"):
                await payloads.get(PayloadReference(object=NAME, size_bytes=1, sha256=""))
            await payloads.delete(NAME)
