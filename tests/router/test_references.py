"""Requests and outcomes that are too large for a message, at a real router whose broker takes small ones only."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nats.js.errors import NotFoundError

from headrace.contract.deliver import HeldStream
from headrace.contract.ids import new_request_id
from headrace.contract.payload_names import new_request_object
from headrace.contract.payload_wire import encode_content, without_content
from headrace.contract.queue_wire import decode_result, encode_result
from headrace.contract.requests import Request
from headrace.contract.subjects import (
    CONTENT_TYPE_JSON,
    CONTENT_TYPE_PROTOBUF,
    HEADER_CONTENT_TYPE,
    HEADER_REQUEST_ID,
    PAYLOADS_BUCKET,
    REQUESTS_STREAM,
    RESULTS_STREAM,
    Queue,
    result_subject,
)
from headrace.contract.values import FinishReason, Outcome, OutcomeKind, Priority, TokenChunk, Usage
from headrace.contract.work import EntryProgress, StartBatch
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.oversize import Oversize
from headrace.runtime.payloads import Payloads
from headrace.runtime.settings import NatsSettings
from tests.dead.lying import every, fail_for_good
from tests.router.conftest import Mesh, a_request
from tests.router.peers import ScriptedWorker, gateway, worker

pytestmark = pytest.mark.integration

SMALL = 64 * 1024
STREAM = f"OBJ_{PAYLOADS_BUCKET}"
QUEUE = "hr.v1.req.fake.normal.default"


@pytest.fixture
def fresh_nats(tmp_path: Path) -> Iterator[EmbeddedNats]:
    """A server whose largest message is small."""
    with EmbeddedNats(NatsSettings(port=0, store_dir=tmp_path / "nats", max_payload_bytes=SMALL)) as server:
        yield server


def payloads(mesh: Mesh) -> Payloads:
    return Payloads(mesh.nats, max_bytes=16 * 1024 * 1024, answer_s=5.0)


async def objects(mesh: Mesh) -> list[str]:
    """The names of all objects; "" for pieces without a name, or a mark of one that was removed."""
    js = mesh.nats.jetstream()
    subjects = (await js.stream_info(STREAM, subjects_filter=">")).state.subjects or {}
    names, pieces = [], set()
    for subject in subjects:
        if ".M." in subject:
            try:
                described = json.loads((await js.get_last_msg(STREAM, subject)).data or b"{}")
            except NotFoundError:
                continue  # removed in this moment
            names.append(described["name"])
            pieces.add(f"$O.{PAYLOADS_BUCKET}.C.{described['nuid']}")
    return names + ["" for subject in subjects if ".C." in subject and subject not in pieces]


async def gone(mesh: Mesh) -> None:
    """Returns when no object of a request is left."""
    async with asyncio.timeout(10):
        while [name for name in await objects(mesh) if "/res/" not in name]:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.02)


async def send(mesh: Mesh, request: Request) -> str:
    """As the gateway does with a request that is too large; gives the object's name."""
    name = new_request_object(request.tenant, request.id)
    reference = await payloads(mesh).put(name, encode_content(request))
    await mesh.publish(without_content(request, reference))
    return name


async def send_json(mesh: Mesh, content: dict[str, Any], **message: Any) -> str:
    """As a producer does with its client's object store."""
    body = json.dumps(content).encode()
    name = f"default/req/{new_request_id()}"
    store = await mesh.nats.jetstream().object_store(PAYLOADS_BUCKET)
    await store.put(name, body)
    payload = {"object": name, "size_bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    await mesh.publish_json(QUEUE, {"payload": payload | message.pop("payload", {}), **message})
    return name


async def make(hands: ScriptedWorker, batch: StartBatch, text: str) -> None:
    """All text as the first token's, for the length of a text is what counts here."""
    chunk = TokenChunk(first_index=0, token_ids=(120, 121), text=text, text_lengths=(len(text), 0))
    await hands.send(EntryProgress(assignment=batch.entries[0].assignment, tokens=chunk))
    await hands.finish(batch, FinishReason.END)


async def stored(mesh: Mesh, request: Request) -> tuple[Outcome, Outcome]:
    """The outcome as its message has it, and whole."""
    small = await mesh.result(request)
    message = await mesh.nats.jetstream().get_last_msg(
        RESULTS_STREAM, result_subject(request.tenant, request.id)
    )
    content_type = (message.headers or {})[HEADER_CONTENT_TYPE]
    oversize = Oversize(payloads(mesh), result_max_age_s=60)
    return small, await oversize.whole_outcome(request.tenant, small, content_type)


async def test_a_request_by_reference_is_answered_and_leaves_nothing(mesh: Mesh) -> None:
    """The worker gets its content as if it had been in the message; then no object is left."""
    router = await mesh.start_router("r-1")
    request = a_request(prompt="by reference", stop=("never",), max_tokens=9)
    async with worker(router.address, mesh.model) as hands:
        name = await send(mesh, request)
        batch = await hands.batch()
        (entry,) = batch.entries
        assert bytes(entry.prompt) == b"by reference"
        assert (entry.request_id, entry.max_tokens, entry.stop) == (request.id, 9, ("never",))
        assert await objects(mesh) == [name], "kept while it runs: another router may need it"
        await make(hands, batch, "ok")
        assert (await mesh.result(request)).text == "ok"
        await gone(mesh)


async def test_a_producer_with_a_nats_client_does_the_same(mesh: Mesh) -> None:
    """In JSON, by its client's own object store; reply subject and all else may be in the object."""
    router = await mesh.start_router("r-1")
    events = await mesh.nats.subscribe("mine")
    async with worker(router.address, mesh.model) as hands:
        content = {"messages": [{"role": "user", "content": "größer"}], "max_tokens": 7, "reply_to": "mine"}
        await send_json(mesh, content)
        batch = await hands.batch()
        assert "größer" in bytes(token for token in batch.entries[0].prompt if token < 256).decode()
        await make(hands, batch, "ok")
        assert json.loads((await events.next_msg(5)).data)["tokens"]["text"] == "ok"
        assert "finished" in json.loads((await events.next_msg(5)).data)
        await gone(mesh)


async def test_an_object_that_cannot_be_used_is_answered_with_what_to_do(mesh: Mesh) -> None:
    """Rejected, naming the field, before any compute; and of what the request may refer to nothing is left."""
    router = await mesh.start_router("r-1")
    events = await mesh.nats.subscribe("mine")
    async with worker(router.address, mesh.model):
        for content, changes, problem in (
            ({"prompt": "p"}, {"sha256": "ab" * 32}, "the object's SHA-256 is not the one in sha256"),
            ({"prompt": "p"}, {"size_bytes": 3}, "size_bytes says 3"),
            ({"prompt": "p"}, {"size_bytes": 10**9}, "limits.max_payload_bytes allows"),
            ({"promt": "p"}, {}, "the object: there is no field promt; did you mean prompt?"),
            ({"prompt": ""}, {}, "prompt: is empty"),
            ({"prompt": "p", "id": new_request_id()}, {}, "an id belongs in the message"),
            ({"prompt": "p", "payload": {"object": "x"}}, {}, "refers to another one"),
        ):
            await send_json(mesh, content, payload=changes, reply_to="mine")
            finished = json.loads((await events.next_msg(5)).data)["finished"]
            assert finished["kind"] == "OUTCOME_KIND_REJECTED"
            assert problem in finished["error"]["message"]
            if "prompt: " not in problem:
                assert finished["error"]["field"] == "payload"
            await gone(mesh)


async def test_what_is_not_there_is_rejected(mesh: Mesh) -> None:
    """A producer that forgot the object, or sent the message first."""
    router = await mesh.start_router("r-1")
    events = await mesh.nats.subscribe("mine")
    payload = {"object": "default/req/none", "size_bytes": 1, "sha256": ""}
    async with worker(router.address, mesh.model):
        await mesh.publish_json(QUEUE, {"payload": payload, "reply_to": "mine"})
        error = json.loads((await events.next_msg(5)).data)["finished"]["error"]
    assert "put it there before the message is sent" in error["message"]


async def test_another_tenants_object_is_neither_read_nor_removed(mesh: Mesh) -> None:
    """Nor an outcome, nor what a path would lead to."""
    router = await mesh.start_router("r-1")
    theirs = await payloads(mesh).put("red/req/secret", b'{"prompt": "secret"}')
    result = await payloads(mesh).put("default/res/secret", b'{"prompt": "secret"}')
    events = await mesh.nats.subscribe("mine")
    names = ("red/req/secret", "default/res/secret", "default/req/../../red/req/secret", "", ">")
    async with worker(router.address, mesh.model):
        for name in names:
            payload = {"object": name, "size_bytes": theirs.size_bytes, "sha256": theirs.sha256}
            await mesh.publish_json(QUEUE, {"payload": payload, "reply_to": "mine"})
            finished = json.loads((await events.next_msg(5)).data)["finished"]
            assert finished["kind"] == "OUTCOME_KIND_REJECTED"
            assert "must be default/req/" in finished["error"]["message"]
    for reference in (theirs, result):
        assert await payloads(mesh).get(reference)


async def test_a_router_that_dies_leaves_the_object_to_the_next(mesh: Mesh) -> None:
    """So does one that gives the request back."""
    first = await mesh.start_router("r-1")
    request = a_request(prompt="by reference")
    async with worker(first.address, mesh.model) as hands:
        await send(mesh, request)
        await hands.batch()
        await first.kill()
    second = await mesh.start_router("r-2")
    async with worker(second.address, mesh.model) as hands:
        await hands.batch()
        await second.stop()
    third = await mesh.start_router("r-3")
    async with worker(third.address, mesh.model) as hands:
        batch = await hands.batch()
        assert bytes(batch.entries[0].prompt) == b"by reference"
        await make(hands, batch, "ok")
        assert (await mesh.result(request)).text == "ok"
        await gone(mesh)


async def test_a_dead_letter_keeps_its_object(mesh: Mesh) -> None:
    """It can be replayed as long as the object is there."""
    router = await mesh.start_router("r-1")
    request = a_request(prompt="by reference")
    async with worker(router.address, mesh.model) as hands:
        name = await send(mesh, request)
        await fail_for_good(hands)
        assert (await mesh.result(request)).kind is OutcomeKind.FAILED
    await router.stop()
    assert await objects(mesh) == [name]
    assert len(await every(mesh.nats)) == 1


async def test_a_large_outcome_is_kept_whole(mesh: Mesh) -> None:
    """Its message says all but the text, and where the whole is, in the producer's format."""
    router = await mesh.start_router("r-1")
    text = "größer " * 20_000
    for as_json in (False, True):
        request = a_request(max_tokens=4000)
        async with worker(router.address, mesh.model) as hands:
            if as_json:
                await mesh.publish_json(QUEUE, {"prompt": "p", "id": request.id})
            else:
                await mesh.publish(request)
            await make(hands, await hands.batch(), text)
            small, whole = await stored(mesh, request)
        assert (small.kind, small.usage.output_tokens) == (OutcomeKind.COMPLETED, 2)
        assert (small.text, small.token_ids, small.failure) == ("", (), None)
        assert small.payload is not None
        assert small.payload.object.startswith(f"default/res/{request.id}-")
        assert whole == replace(
            small, text=text, token_ids=(120, 121), text_lengths=whole.text_lengths, payload=None
        )
        store = await mesh.nats.jetstream().object_store(PAYLOADS_BUCKET)
        content = (await store.get(small.payload.object)).data or b""
        content_type = CONTENT_TYPE_JSON if as_json else CONTENT_TYPE_PROTOBUF
        assert decode_result(content, content_type).text == text


async def test_a_large_outcome_has_its_messages_age(mesh: Mesh) -> None:
    """Not the bucket's, which is longer."""
    router = await mesh.start_router("r-1")
    request = a_request(max_tokens=4000)
    async with worker(router.address, mesh.model) as hands:
        await mesh.publish(request)
        await make(hands, await hands.batch(), "x" * SMALL)
        await mesh.result(request)
    js = mesh.nats.jetstream()
    for subject in (await js.stream_info(STREAM, subjects_filter=">")).state.subjects or {}:
        message = await js.get_last_msg(STREAM, subject)
        assert (message.headers or {})["Nats-TTL"] == "86400"


async def test_an_answered_request_gives_its_large_outcome_again(mesh: Mesh) -> None:
    """A gateway that comes back, and a second message of one id, get the text from the object."""
    router = await mesh.start_router("r-1")
    request = a_request(max_tokens=4000, gateway="gw-1")
    text = "x" * SMALL
    async with worker(router.address, mesh.model) as hands:
        await mesh.publish(request)
        await make(hands, await hands.batch(), text)
        await mesh.result(request)
    events = await mesh.nats.subscribe("again")
    again = {"prompt": "hello", "id": request.id, "max_tokens": 4000, "reply_to": "again"}
    await mesh.publish_json(QUEUE, again)
    assert json.loads((await events.next_msg(5)).data)["finished"]["usage"]["output_tokens"] == 2
    await router.stop()
    second = await mesh.start_router("r-2")
    held = HeldStream(request_id=request.id, tenant="default")
    async with gateway(second.address, "gw-1", (held,)) as front:
        await front.until_text(request.id, text)
        assert (await front.outcome(request.id)).kind is OutcomeKind.COMPLETED


async def test_the_same_request_sent_again_while_it_runs(mesh: Mesh) -> None:
    """In an object of its own, which is not needed; the consumer of each message gets the answer."""
    router = await mesh.start_router("r-1")
    events = await mesh.nats.subscribe("again")
    request = a_request(prompt="by reference", max_tokens=9)
    async with worker(router.address, mesh.model) as hands:
        name = await send(mesh, request)
        batch = await hands.batch()
        await send_json(mesh, {"prompt": "by reference", "max_tokens": 9}, id=request.id, reply_to="again")
        async with asyncio.timeout(10):
            while await objects(mesh) != [name] or await queued(mesh) > 1:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.02)
        await make(hands, batch, "ok")
        assert json.loads((await events.next_msg(5)).data)["tokens"]["text"] == "ok"
        await gone(mesh)
    assert await every(mesh.nats) == []


async def test_another_request_of_that_id_is_a_dead_letter_with_its_content(mesh: Mesh) -> None:
    """Whether the first still runs or has ended."""
    router = await mesh.start_router("r-1")
    events = await mesh.nats.subscribe("mine")
    request = a_request(prompt="by reference", max_tokens=9)
    async with worker(router.address, mesh.model) as hands:
        await send(mesh, request)
        batch = await hands.batch()
        others = [await send_json(mesh, {"prompt": "another"}, id=request.id, reply_to="mine")]
        error = json.loads((await events.next_msg(5)).data)["finished"]["error"]
        assert error["code"] == "DUPLICATE_REQUEST"
        await make(hands, batch, "ok")
        assert (await mesh.result(request)).text == "ok"
        others.append(await send_json(mesh, {"prompt": "another"}, id=request.id, reply_to="mine"))
        error = json.loads((await events.next_msg(5)).data)["finished"]["error"]
        assert error["code"] == "DUPLICATE_REQUEST"
    await router.stop()
    assert len(await every(mesh.nats)) == 2
    assert sorted(await objects(mesh)) == sorted(others)


async def test_a_request_that_had_its_outcome_needs_no_object(mesh: Mesh) -> None:
    """It was removed with the outcome, and the broker delivers the message again: it is answered, not rejected."""
    router = await mesh.start_router("r-1")
    events = await mesh.nats.subscribe("mine")
    request = a_request(prompt="by reference")
    async with worker(router.address, mesh.model) as hands:
        await send(mesh, request)
        await make(hands, await hands.batch(), "ok")
        await mesh.result(request)
        await gone(mesh)
        payload = {"object": "default/req/gone", "size_bytes": 1, "sha256": ""}
        await mesh.publish_json(QUEUE, {"payload": payload, "id": request.id, "reply_to": "mine"})
        finished = json.loads((await events.next_msg(5)).data)["finished"]
        assert finished["kind"] == "OUTCOME_KIND_COMPLETED"
    assert await every(mesh.nats) == []


async def queued(mesh: Mesh) -> int:
    """Requests that wait or run."""
    return (await mesh.nats.jetstream().stream_info(REQUESTS_STREAM)).state.messages


async def test_of_two_outcomes_the_second_leaves_no_object(mesh: Mesh) -> None:
    """The broker keeps the first; what the second would have referred to is removed."""
    router = await mesh.start_router("r-1")
    request = a_request(max_tokens=4000)
    async with worker(router.address, mesh.model) as hands:
        await mesh.publish(request)
        batch = await hands.batch()
        js = mesh.nats.jetstream()
        first = Outcome(request_id=request.id, kind=OutcomeKind.CANCELLED, model="fake", usage=Usage())
        await js.publish(
            result_subject("default", request.id),
            encode_result(first, as_json=False),
            headers={HEADER_CONTENT_TYPE: CONTENT_TYPE_PROTOBUF, HEADER_REQUEST_ID: "another"},
        )
        await make(hands, batch, "x" * SMALL)
        async with asyncio.timeout(10):
            while await queued(mesh):  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.02)
    await router.stop()
    assert await objects(mesh) == []
    assert (await mesh.result(request)).kind is OutcomeKind.CANCELLED


async def test_an_outcome_that_even_the_object_store_refuses_says_so(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is full for longer than the router waits: the request ends, with the reason in its outcome."""
    monkeypatch.setattr("headrace.router.references.FULL_PATIENCE_S", 0.5)
    router = await mesh.start_router("r-1")
    js = mesh.nats.jetstream()
    config = (await js.stream_info(STREAM)).config
    await js.update_stream(config.evolve(max_bytes=1000))
    request = a_request(max_tokens=4000)
    async with worker(router.address, mesh.model) as hands:
        await mesh.publish(request)
        await make(hands, await hands.batch(), "x" * SMALL)
        outcome = await mesh.result(request)
    assert (outcome.kind, outcome.text) == (OutcomeKind.COMPLETED, "")
    assert outcome.failure is not None
    assert outcome.failure.code == "RESULT_TOO_LARGE"
    assert "queues.payload_max_bytes" in outcome.failure.message
    assert await objects(mesh) == []


async def test_an_outcome_waits_for_room(mesh: Mesh) -> None:
    """Room that comes in time is used, and nothing is lost."""
    router = await mesh.start_router("r-1")
    js = mesh.nats.jetstream()
    config = (await js.stream_info(STREAM)).config
    await js.update_stream(config.evolve(max_bytes=1000))
    request = a_request(max_tokens=4000)
    async with worker(router.address, mesh.model) as hands:
        await mesh.publish(request)
        await make(hands, await hands.batch(), "x" * SMALL)
        await asyncio.sleep(0.3)  # it has tried in vain by then
        await js.update_stream(config)
        _, whole = await stored(mesh, request)
    assert whole.text == "x" * SMALL


async def test_a_bucket_that_was_deleted_is_there_again(mesh: Mesh) -> None:
    """What it held is gone, and said to be; what comes is kept in the new one, and waits for it."""
    router = await mesh.start_router("r-1")
    running, lost = a_request(max_tokens=4000), a_request(prompt="by reference")
    async with worker(router.address, mesh.model) as hands:
        await mesh.publish(running)
        batch = await hands.batch()
        reference = await payloads(mesh).put(new_request_object("default", lost.id), encode_content(lost))
        await mesh.nats.jetstream().delete_stream(STREAM)
        await mesh.publish(without_content(lost, reference))
        await make(hands, batch, "x" * SMALL)
        _, whole = await stored(mesh, running)
        assert whole.text == "x" * SMALL
        outcome = await mesh.result(lost)
        assert outcome.kind is OutcomeKind.REJECTED
        assert outcome.failure is not None
        assert outcome.failure.field == "payload"


async def test_tokens_that_are_too_large_for_one_message_come_in_several(mesh: Mesh) -> None:
    """In order, without a gap; a client that reads them has the whole."""
    router = await mesh.start_router("r-1")
    events = await mesh.nats.subscribe("mine")
    text = "".join(chr(ord("a") + index % 26) for index in range(900)) * 100
    async with worker(router.address, mesh.model) as hands:
        await mesh.publish_json(QUEUE, {"prompt": "p", "max_tokens": 1000, "reply_to": "mine"})
        batch = await hands.batch()
        chunk = TokenChunk(
            first_index=0, token_ids=tuple(range(900)), text=text, text_lengths=(len(text) // 900,) * 900
        )
        await hands.send(EntryProgress(assignment=batch.entries[0].assignment, tokens=chunk))
        await hands.finish(batch)
        got = ""
        ids: list[int] = []
        while "tokens" in (event := json.loads((await events.next_msg(5)).data)):
            assert event["tokens"]["first_index"] == len(ids)
            ids += event["tokens"]["token_ids"]
            got += event["tokens"]["text"]
    assert (got, ids) == (text, list(range(900)))


async def test_a_queue_names_the_tenant(mesh: Mesh) -> None:
    """A request of another tenant has objects of its own."""
    router = await mesh.start_router("r-1")
    request = a_request(tenant="blue", prompt="by reference")
    assert Queue(model="fake", priority=Priority.NORMAL, tenant="blue").subject.endswith("blue")
    async with worker(router.address, mesh.model) as hands:
        assert (await send(mesh, request)).startswith("blue/req/")
        await make(hands, await hands.batch(), "ok")
        assert (await mesh.result(request)).text == "ok"
        await gone(mesh)
