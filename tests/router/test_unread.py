"""Messages that hold no request: who waits for their answer is told, as far as it can be read who that is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from headrace.contract.ids import new_request_id
from headrace.contract.queue_wire import DeadLetter, decode_dead_letter, decode_result
from headrace.contract.subjects import (
    CONTENT_TYPE_PROTOBUF,
    DEAD_STREAM,
    HEADER_CONTENT_TYPE,
    HEADER_REQUEST_ID,
    RESULTS_STREAM,
    SHADOW_TENANT,
)
from headrace.contract.values import OutcomeKind
from headrace.router import burials
from headrace.router.quietly import quietly
from headrace.router.strays import Stray
from headrace.router.unread import unread_stray
from headrace.v1.common_pb2 import OUTCOME_KIND_REJECTED
from headrace.v1.queue_pb2 import QueuedRequest, TokenEvent
from tests.router.conftest import Mesh, a_request
from tests.router.peers import worker

QUEUE = "hr.v1.req.fake.normal.default"
FORBIDDEN = ("hr.v1.req.fake.normal.other", "$JS.API.STREAM.DELETE.X", "hr.v1.tok.other.x", "a b", "a.>", "")


class Consumer:
    """Reads what is published on a subject, and the dead letters."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    async def listen(self, subject: str) -> None:
        self._events = await self._mesh.nats.subscribe(subject)
        self._letters = await self._mesh.nats.subscribe("hr.v1.dead.>")

    async def told(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads((await self._events.next_msg(5)).data)
        return event

    async def letter(self) -> DeadLetter:
        return decode_dead_letter((await self._letters.next_msg(5)).data)

    async def rejected(self, *, tenant: str = "default") -> tuple[str, str]:
        """The id and the code that the consumer is told: the same in the letter and in the durable outcome."""
        event, letter = await self.told(), await self.letter()
        finished = event["finished"]
        assert finished["kind"] == "OUTCOME_KIND_REJECTED"
        assert event["request_id"] == letter.request_id
        code, message = finished["error"]["code"], finished["error"]["message"]
        assert (code, message) == (letter.failure.code, letter.failure.message)
        stored = await self._mesh.nats.jetstream().get_last_msg(
            RESULTS_STREAM, f"hr.v1.res.{tenant}.{event['request_id']}"
        )
        outcome = decode_result(stored.data or b"", (stored.headers or {})[HEADER_CONTENT_TYPE])
        assert outcome.kind is OutcomeKind.REJECTED
        assert outcome.failure is not None
        assert (outcome.failure.code, outcome.failure.message) == (code, message)
        return event["request_id"], code


@pytest.fixture
async def reader(mesh: Mesh) -> AsyncIterator[None]:
    """A router that pulls, for it has a worker."""
    router = await mesh.start_router("r-1")
    async with worker(router.address, mesh.model):
        yield


@pytest.mark.integration
@pytest.mark.usefixtures("reader")
async def test_the_consumer_of_what_cannot_be_read_is_told(mesh: Mesh) -> None:
    """On its reply subject: why, under the id that it chose or one that was made, which has that for its outcome."""
    consumer, own = Consumer(mesh), new_request_id()
    await consumer.listen("my.inbox")
    for subject, fields, code in (
        (QUEUE, {"prompt": "x", "max_tokns": 3}, "MALFORMED_MESSAGE"),
        (QUEUE, {"prompt": "x", "id": "abc"}, "INVALID_REQUEST"),
        (QUEUE, {"prompt": 7, "id": own}, "MALFORMED_MESSAGE"),
        ("hr.v1.req.fake.urgent.default", {"prompt": "x"}, "INVALID_REQUEST"),
    ):
        await mesh.publish_json(subject, {**fields, "reply_to": "my.inbox"})
        request_id, told = await consumer.rejected()
        assert told == code
        assert (request_id == own) is (fields.get("id") == own)
    await mesh.queues_are_empty()


@pytest.mark.integration
@pytest.mark.usefixtures("reader")
async def test_without_a_reply_subject_the_ids_own_is_told(mesh: Mesh) -> None:
    """Also where the body is no JSON, for an id may stand in the header; or where what it names is not permitted."""
    consumer = Consumer(mesh)
    await consumer.listen("hr.v1.tok.default.*")
    js, own = mesh.nats.jetstream(), new_request_id()
    await js.publish(QUEUE, b"{nope", headers={HEADER_REQUEST_ID: own})
    assert await consumer.rejected() == (own, "MALFORMED_MESSAGE")
    await js.publish(QUEUE, b"{nope")
    made, _ = await consumer.rejected()
    assert made != own
    everything = await mesh.nats.subscribe(">")
    for reply_to in FORBIDDEN:
        await mesh.publish_json(QUEUE, {"promt": "x", "reply_to": reply_to})
        await consumer.rejected()
    heard = []
    while everything.pending_msgs:
        heard.append((await everything.next_msg(1)).subject)
    assert heard
    assert not {*heard} & {*FORBIDDEN}


@pytest.mark.integration
@pytest.mark.usefixtures("reader")
async def test_a_subject_without_a_tenant_is_answered_on_the_reply_subject_alone(mesh: Mesh) -> None:
    """No outcome can be stored for nobody."""
    consumer = Consumer(mesh)
    await consumer.listen("my.inbox")
    await mesh.publish_json("hr.v1.req.fake.normal", {"prompt": "x", "reply_to": "my.inbox"})
    event, letter = await consumer.told(), await consumer.letter()
    assert event["finished"]["error"]["code"] == "INVALID_REQUEST"
    assert event["request_id"] == letter.request_id != ""
    assert (await mesh.nats.jetstream().stream_info(RESULTS_STREAM)).state.messages == 0


@pytest.mark.integration
@pytest.mark.usefixtures("reader")
async def test_a_consumer_that_speaks_protobuf_is_told_in_it(mesh: Mesh) -> None:
    """A message that was cut off: what stands before is read."""
    events = await mesh.nats.subscribe("my.inbox")
    body = QueuedRequest(prompt="x", reply_to="my.inbox").SerializeToString() + b"\x5a\x7fcut"
    headers = {HEADER_CONTENT_TYPE: CONTENT_TYPE_PROTOBUF}
    await mesh.nats.jetstream().publish(QUEUE, body, headers=headers)
    event = TokenEvent.FromString((await events.next_msg(5)).data)
    assert (event.finished.kind, event.finished.error.code) == (OUTCOME_KIND_REJECTED, "MALFORMED_MESSAGE")


@pytest.mark.integration
@pytest.mark.parametrize("reads", ["r-1", "r-2"])
async def test_a_request_that_runs_keeps_its_id(mesh: Mesh, reads: str) -> None:
    """Whichever router reads the message: its sender is told, the request's consumer is not, and gets its outcome."""
    router = await mesh.start_router("r-1", **{"router.max_held": 1} if reads == "r-2" else {})
    consumer = Consumer(mesh)
    await consumer.listen("my.inbox")
    request = a_request()
    own = await mesh.nats.subscribe(f"hr.v1.tok.default.{request.id}")
    async with AsyncExitStack() as stack:
        hands = await stack.enter_async_context(worker(router.address, mesh.model))
        await mesh.publish_json(QUEUE, {"prompt": "one", "id": request.id})
        batch = await hands.batch()
        if reads == "r-2":  # r-1 holds as many as it may
            second = await mesh.start_router("r-2")
            await stack.enter_async_context(worker(second.address, mesh.model, worker_id="w-2"))
        await mesh.publish_json(QUEUE, {"promt": "two", "id": request.id, "reply_to": "my.inbox"})
        assert (await consumer.told())["finished"]["kind"] == "OUTCOME_KIND_REJECTED"
        assert (await consumer.letter()).request_id == request.id
        await hands.finish(batch)
        assert (await mesh.result(request)).kind is OutcomeKind.COMPLETED
        event = json.loads((await own.next_msg(5)).data)
        assert event["finished"]["kind"] == "OUTCOME_KIND_COMPLETED"
        assert own.pending_msgs == 0


@pytest.mark.integration
async def test_an_outcome_stays_whatever_comes_after_it(mesh: Mesh) -> None:
    """That of a request, for which a message that cannot be read takes the id; and that of the message, for which the
    corrected one does.
    """
    router = await mesh.start_router("r-1")
    consumer = Consumer(mesh)
    await consumer.listen("my.inbox")
    request, slip = a_request(), a_request()
    async with worker(router.address, mesh.model) as hands:
        await mesh.publish_json(QUEUE, {"prompt": "one", "id": request.id})
        await hands.finish(await hands.batch())
        assert (await mesh.result(request)).kind is OutcomeKind.COMPLETED
        await mesh.publish_json(QUEUE, {"promt": "one", "id": request.id, "reply_to": "my.inbox"})
        assert (await consumer.told())["finished"]["error"]["code"] == "MALFORMED_MESSAGE"
        assert (await consumer.letter()).failure.code == "MALFORMED_MESSAGE"
        assert (await mesh.result(request)).kind is OutcomeKind.COMPLETED
        await mesh.publish_json(QUEUE, {"promt": "one", "id": slip.id, "reply_to": "my.inbox"})
        assert await consumer.rejected() == (slip.id, "MALFORMED_MESSAGE")
        await mesh.publish_json(QUEUE, {"prompt": "one", "id": slip.id, "reply_to": "my.inbox"})
        assert (await consumer.told())["finished"]["error"]["code"] == "DUPLICATE_REQUEST"
        assert (await consumer.letter()).request_id == slip.id
        outcome = await mesh.result(slip)
        assert outcome.failure is not None
        assert outcome.failure.code == "MALFORMED_MESSAGE"


@pytest.mark.integration
@pytest.mark.usefixtures("reader")
async def test_a_crash_before_the_acknowledgement_costs_nothing(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delivered again, the message has the letter and the outcome that it has; its consumer is told once more."""
    lost = asyncio.Event()

    async def lose_the_first(acknowledgement: Awaitable[None]) -> None:
        if lost.is_set():
            await quietly(acknowledgement)
        else:
            acknowledgement.close()  # type: ignore[attr-defined]
            lost.set()

    monkeypatch.setattr(burials, "quietly", lose_the_first)
    consumer = Consumer(mesh)
    await consumer.listen("my.inbox")
    await mesh.publish_json(QUEUE, {"promt": "x", "reply_to": "my.inbox"})
    request_id, _ = await consumer.rejected()
    again = await consumer.told()
    assert again["request_id"] == request_id
    await mesh.queues_are_empty()
    for stream in (DEAD_STREAM, RESULTS_STREAM):
        assert (await mesh.nats.jetstream().stream_info(stream)).state.messages == 1


def _stray(subject: str, body: bytes) -> Stray:
    return Stray(subject=subject, sequence=1, accepted_s=1.0, headers={}, body=body)


def test_a_body_beyond_the_limit_is_not_looked_at() -> None:
    """Its answer goes to the id that is made from its place."""
    body = b'{"reply_to": "my.inbox", "promt": "x"}'
    assert unread_stray(_stray(QUEUE, body), len(body)).reply_to == "my.inbox"
    unread = unread_stray(_stray(QUEUE, body), len(body) - 1)
    assert (unread.reply_to, unread.chosen_id) == ("", False)


@pytest.mark.parametrize(
    ("subject", "tenant"),
    [
        ("hr.v1.req.a.urgent.t", "t"),
        ("hr.v1.req.a b.normal.t", "t"),
        ("hr.v1.req.a.normal.t.more", ""),
        ("hr.v1.req.a.normal", ""),
        ("hr.v1.req.a.normal.*", ""),
        ("hr.v1.req.>", ""),
        ("other.a.normal.t", ""),
    ],
)
def test_the_tenant_is_that_of_the_subject_or_nobody(subject: str, tenant: str) -> None:
    """A longer or shorter subject is nobody's: who may publish there was not asked for that tenant."""
    assert unread_stray(_stray(subject, b""), 10).tenant == tenant


def test_nobody_waits_for_a_copy() -> None:
    """A copy for a shadow has no outcome, be it read or not."""
    assert not unread_stray(_stray(f"hr.v1.req.a.batch.{SHADOW_TENANT}", b""), 10).awaited
