"""Requests and outcomes that are too large for the broker's messages, and a client that does not notice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from headrace.client.client import HeadraceClient
from headrace.contract.client_wire import decode_generate_response, encode_get_result
from headrace.contract.errors import DuplicateRequest, InvalidRequest, Overloaded, Unavailable
from headrace.contract.ids import new_request_id
from headrace.contract.inference_wire import Attachment, encode_attach
from headrace.contract.queue_wire import encode_request, encode_result
from headrace.contract.requests import Request
from headrace.contract.subjects import (
    CONTENT_TYPE_JSON,
    CONTENT_TYPE_PROTOBUF,
    HEADER_CONTENT_TYPE,
    HEADER_REQUEST_ID,
    PAYLOADS_BUCKET,
    RESULTS_STREAM,
    parse_queue,
    result_subject,
)
from headrace.contract.values import Outcome, OutcomeKind, Priority, TokenChunk
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.oversize import Oversize
from headrace.runtime.payloads import Payloads
from headrace.runtime.settings import NatsSettings, Settings
from tests.gateway.acting_router import LIMIT_S, ActingRouter, Taken, completed
from tests.gateway.conftest import OVERRIDES

if TYPE_CHECKING:
    from headrace.v1.inference_pb2_grpc import InferenceServiceAsyncStub

pytestmark = pytest.mark.integration

SMALL = 64 * 1024
MIB = 1024 * 1024
STREAM = f"OBJ_{PAYLOADS_BUCKET}"


@pytest.fixture
def fresh_nats(tmp_path: Path) -> Iterator[EmbeddedNats]:
    """A server whose largest message is small."""
    with EmbeddedNats(NatsSettings(port=0, store_dir=tmp_path / "nats", max_payload_bytes=SMALL)) as server:
        yield server


@pytest.fixture
def settings(fresh_nats: EmbeddedNats, settings_for: Callable[..., Settings]) -> Settings:
    limits = {
        "limits.max_prompt_bytes": 6 * MIB,
        "limits.max_payload_bytes": 5 * MIB,
        "gateway.max_request_bytes": 8 * MIB,
        "queues.payload_max_bytes": 12 * MIB,
        "queues.max_messages_per_queue": 2,
    }
    return settings_for(fresh_nats, **OVERRIDES, **limits)


@pytest.fixture
def oversize(nc: Client) -> Oversize:
    """As a router has it."""
    return Oversize(Payloads(nc, max_bytes=16 * MIB, answer_s=5.0), result_max_age_s=60)


async def left(nc: Client) -> int:
    """Messages in the bucket."""
    return (await nc.jetstream().stream_info(STREAM)).state.messages


async def whole(taken: Taken, oversize: Oversize) -> Request:
    """As a router completes it."""
    message = taken.message
    queue = parse_queue(message.subject)
    return await oversize.whole_request(message.data, CONTENT_TYPE_PROTOBUF, queue, taken.request)


async def test_a_large_request_arrives_whole(
    client: HeadraceClient, router: ActingRouter, oversize: Oversize, nc: Client
) -> None:
    """What others need of it is in the message; its content is in an object of its tenant."""
    prompt = "größer " * 100_000
    generating = asyncio.create_task(
        client.complete(model="tiny", prompt=prompt, tenant="blue", stop=["never"], timeout_s=60)
    )
    taken = await router.take()
    small = taken.request
    assert (small.prompt, small.stop) == ("", ())
    assert small.gateway
    assert small.deadline_s is not None
    assert small.payload is not None
    assert small.payload.object.startswith(f"blue/req/{taken.id}-")
    request = await whole(taken, oversize)
    assert request == replace(small, prompt=prompt, stop=("never",))
    router.tokens(taken.id, 0, "ok")
    await router.finish(taken, "ok")
    assert (await generating).text == "ok"
    await oversize.drop_request(small)
    assert await left(nc) == 0


async def test_a_large_chat_arrives_whole(
    client: HeadraceClient, router: ActingRouter, oversize: Oversize
) -> None:
    """Submitted, in many messages."""
    messages = [{"role": "user", "content": "x" * 10_000}] * 100
    await client.submit(model="tiny", messages=messages)
    request = await whole(await router.take(), oversize)
    assert [message.content for message in request.messages] == ["x" * 10_000] * 100


async def test_what_is_refused_leaves_no_object(
    client: HeadraceClient, router: ActingRouter, nc: Client, oversize: Oversize
) -> None:
    """By a full queue, for its id, as over the limits; nor does what was sent before."""
    used = new_request_id()
    await client.submit(model="tiny", prompt="x" * SMALL, request_id=used)
    before = await left(nc)
    await client.submit(
        model="tiny", prompt="x" * SMALL, request_id=used
    )  # the same again: nothing more is kept
    assert await left(nc) == before
    with pytest.raises(DuplicateRequest):
        await client.submit(model="tiny", prompt="y" * SMALL, request_id=used)
    assert await left(nc) == before
    await client.submit(model="tiny", prompt="small")
    with pytest.raises(Overloaded, match="queue of tiny"):
        await client.submit(model="tiny", prompt="x" * SMALL)
    assert await left(nc) == before
    with pytest.raises(InvalidRequest, match="at most 6291456 are allowed") as caught:
        await client.submit(model="tiny", prompt="x" * (6 * MIB + 1))
    assert caught.value.field == "prompt"
    with pytest.raises(InvalidRequest, match=r"limits\.max_payload_bytes allows 5242880") as caught:
        await client.submit(model="tiny", prompt="x" * 6 * MIB, priority="high")
    assert caught.value.field == "prompt"
    assert await left(nc) == before
    await oversize.drop_request((await router.take()).request)
    assert await left(nc) == 0


async def test_a_full_bucket_refuses_with_a_time_to_try_again(
    client: HeadraceClient, router: ActingRouter, nc: Client
) -> None:
    """Small requests go on."""
    for _ in range(2):
        await client.submit(model="tiny", prompt="x" * (5 * MIB - 100))
    before = await left(nc)
    with pytest.raises(Overloaded, match="store of large requests and results is full") as caught:
        await client.submit(model="tiny", prompt="x" * (5 * MIB - 100), priority="high")
    assert caught.value.retry_after_s > 1
    assert await left(nc) == before
    await client.submit(model="tiny", prompt="small", priority="high")


async def test_an_unconfirmed_request_keeps_its_object(
    client: HeadraceClient, router: ActingRouter, oversize: Oversize, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker may have it, and here it has."""
    publish = JetStreamContext.publish

    async def unconfirmed(self: JetStreamContext, subject: str, *args: Any, **options: Any) -> Any:
        ack = await publish(self, subject, *args, **options)
        if subject.startswith("hr.v1.req."):
            raise TimeoutError
        return ack

    monkeypatch.setattr(JetStreamContext, "publish", unconfirmed)
    with pytest.raises(Unavailable, match="did not confirm"):
        await client.submit(model="tiny", prompt="x" * SMALL)
    assert (await whole(await router.take(), oversize)).prompt == "x" * SMALL


async def store(nc: Client, outcome: Outcome, body: bytes, content_type: str = CONTENT_TYPE_PROTOBUF) -> None:
    await nc.jetstream().publish(
        result_subject("default", outcome.request_id),
        body,
        stream=RESULTS_STREAM,
        headers={HEADER_CONTENT_TYPE: content_type},
    )


def larger_than_grpcs_limit() -> Outcome:
    """Which is 4 MiB."""
    return replace(completed(new_request_id(), "x" * 4_500_000), token_ids=(120,), text_lengths=())


@pytest.mark.parametrize("as_json", [False, True])
async def test_get_result_gives_a_large_outcome_whole(
    client: HeadraceClient, router: ActingRouter, nc: Client, oversize: Oversize, as_json: bool
) -> None:
    """More than gRPC's own limit, whichever format the producer speaks."""
    outcome = larger_than_grpcs_limit()
    small = await oversize.put_outcome("default", outcome, encode_result(outcome, as_json=as_json))
    assert small.text == ""
    waiting = asyncio.create_task(client.result(outcome.request_id, wait_s=LIMIT_S))
    content_type = CONTENT_TYPE_JSON if as_json else CONTENT_TYPE_PROTOBUF
    await store(nc, outcome, encode_result(small, as_json=as_json), content_type)
    assert await waiting == outcome


async def test_a_client_with_grpcs_own_limit_is_told(
    router: ActingRouter, nc: Client, oversize: Oversize, stub: InferenceServiceAsyncStub
) -> None:
    """It has to raise its limit, as the contract says; the gateway would send more."""
    outcome = larger_than_grpcs_limit()
    small = await oversize.put_outcome("default", outcome, encode_result(outcome, as_json=False))
    await store(nc, outcome, encode_result(small, as_json=False))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetResult(encode_get_result("default", outcome.request_id, 0))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "vs. 4194304" in (caught.value.details() or "")


async def test_an_outcome_whose_object_is_gone_says_so(
    client: HeadraceClient, router: ActingRouter, nc: Client, oversize: Oversize
) -> None:
    """How it ended is known all the same; nothing passes for an empty answer."""
    outcome = completed(new_request_id(), "x" * SMALL)
    small = await oversize.put_outcome("default", outcome, encode_result(outcome, as_json=False))
    await oversize.drop_outcome("default", small)
    await store(nc, outcome, encode_result(small, as_json=False))
    found = await client.result(outcome.request_id)
    assert (found.kind, found.usage, found.text) == (OutcomeKind.COMPLETED, outcome.usage, "")
    assert found.failure is not None
    assert found.failure.code == "RESULT_LOST"
    assert await client.cancel(outcome.request_id) is OutcomeKind.COMPLETED


async def test_an_outcome_gives_no_other_tenants_object(
    client: HeadraceClient, router: ActingRouter, nc: Client, oversize: Oversize
) -> None:
    """Whoever wrote it."""
    secret = completed(new_request_id(), "secret")
    theirs = await oversize.put_outcome("red", secret, encode_result(secret, as_json=False))
    mine = replace(theirs, request_id=new_request_id())
    await store(nc, mine, encode_result(mine, as_json=False))
    found = await client.result(mine.request_id)
    assert found.text == ""
    assert found.failure is not None
    assert found.failure.code == "RESULT_LOST"


async def test_attach_gives_a_large_outcome_in_messages_that_fit(
    router: ActingRouter, nc: Client, oversize: Oversize, stub: InferenceServiceAsyncStub
) -> None:
    """A client with gRPC's own limit gets all of it, from any index on."""
    text = "größer " * 350_000
    outcome = replace(
        completed(new_request_id(), text), token_ids=tuple(range(350_000)), text_lengths=(7,) * 350_000
    )
    outcome = replace(outcome, usage=replace(outcome.usage, output_tokens=350_000))
    small = await oversize.put_outcome("default", outcome, encode_result(outcome, as_json=False))
    await store(nc, outcome, encode_result(small, as_json=False))
    wanted = Attachment(tenant="default", request_id=outcome.request_id, from_index=3)
    came, at = [], 3
    async for response in stub.Attach(encode_attach(wanted)):
        if isinstance(event := decode_generate_response(response), TokenChunk):
            assert event.first_index == at
            at = event.next_index
            came.append(event.text)
    assert at == 350_000
    assert "".join(came) == text[21:]


async def test_a_large_request_of_a_producer_is_recognised(
    client: HeadraceClient, router: ActingRouter, nc: Client, oversize: Oversize
) -> None:
    """Its message says nothing of what is asked: its object does."""
    asked = Request(
        id=new_request_id(), tenant="default", model="tiny", priority=Priority.NORMAL, prompt="x" * SMALL
    )
    body = encode_request(await oversize.put_request(asked))
    headers = {HEADER_REQUEST_ID: asked.id, HEADER_CONTENT_TYPE: CONTENT_TYPE_PROTOBUF}
    await nc.jetstream().publish("hr.v1.req.tiny.normal.default", body, headers=headers)
    accepted = await client.submit(model="tiny", prompt=asked.prompt, request_id=asked.id)
    assert accepted.request_id == asked.id
    with pytest.raises(DuplicateRequest):
        await client.submit(model="tiny", prompt="y" * SMALL, request_id=asked.id)
