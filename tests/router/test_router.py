"""A whole router between a real broker and scripted peers."""

from __future__ import annotations

import json
import time

import pytest

from headrace.contract.deliver import HeldStream
from headrace.contract.queue_wire import decode_dead_letter
from headrace.contract.subjects import cancel_subject
from headrace.contract.values import Failure, FinishReason, OutcomeKind, Priority, TokenChunk
from headrace.contract.work import BatchEnded, EntryEnd, EntryProgress
from headrace.runtime.nats_flush import flushed
from tests.router.conftest import Mesh, a_request
from tests.router.peers import gateway, worker

pytestmark = pytest.mark.integration


async def test_tokens_reach_the_gateway_and_the_outcome_is_durable(mesh: Mesh) -> None:
    """The straight way: published, assigned, streamed, settled."""
    router = await mesh.start_router("r-1")
    async with worker(router.address, mesh.model) as hands, gateway(router.address) as client:
        request = a_request(gateway="gw-1")
        await mesh.publish(request)
        batch = await hands.batch()
        (entry,) = batch.entries
        assert bytes(entry.prompt) == b"hello"
        assert entry.max_tokens == 20
        await hands.make(entry, "wor")
        await hands.make(entry, "ld", at=3)
        await hands.finish(batch)
        outcome = await client.outcome(request.id)
        assert client.text[request.id] == "world"
        assert outcome.kind is OutcomeKind.COMPLETED
        assert outcome.finish_reason is FinishReason.END
        assert (outcome.usage.prompt_tokens, outcome.usage.output_tokens) == (5, 5)
        stored = await mesh.result(request)
        assert stored.text == "world"
        assert stored.token_ids == tuple(b"world")


async def test_a_lost_worker_is_replaced_without_gap_or_repeat(mesh: Mesh) -> None:
    """The next worker is given the tokens so far, and late frames of the first are ignored."""
    router = await mesh.start_router("r-1")
    async with gateway(router.address) as client:
        request = a_request(gateway="gw-1")
        async with worker(router.address, mesh.model, worker_id="w-1") as first:
            await mesh.publish(request)
            batch = await first.batch()
            await first.make(batch.entries[0], "abc")
            await client.until_text(request.id, "abc")
            first.kill()
        async with worker(router.address, mesh.model, worker_id="w-2") as second:
            batch = await second.batch()
            (entry,) = batch.entries
            assert bytes(entry.generated) == b"abc"
            assert entry.attempt == 2
            await second.make(entry, "def")
            await second.finish(batch)
            outcome = await client.outcome(request.id)
        assert client.text[request.id] == "abcdef"
        assert outcome.usage.attempts == 2


async def test_a_killed_router_is_replaced_and_goes_on_after_what_the_client_has(mesh: Mesh) -> None:
    """The broker delivers again, and the gateway says what its client was given."""
    first = await mesh.start_router("r-1")
    request = a_request(gateway="gw-1")
    async with worker(first.address, mesh.model) as hands, gateway(first.address) as client:
        await mesh.publish(request)
        batch = await hands.batch()
        await hands.make(batch.entries[0], "abc")
        await client.until_text(request.id, "abc")
        await first.kill()
    second = await mesh.start_router("r-2")
    held = HeldStream(request_id=request.id, token_ids=tuple(b"abc"), text="abc")
    async with gateway(second.address, held=(held,)) as client, worker(second.address, mesh.model) as hands:
        batch = await hands.batch()
        assert bytes(batch.entries[0].generated) == b"abc"
        await hands.make(batch.entries[0], "d")
        await hands.finish(batch)
        await client.outcome(request.id)
        assert client.text[request.id] == "abcd"
    assert (await mesh.result(request)).text == "abcd"


async def test_a_gateway_that_comes_back_gets_what_it_missed(mesh: Mesh) -> None:
    """Of a request that ended meanwhile, the rest and the end."""
    router = await mesh.start_router("r-1")
    request = a_request(gateway="gw-1")
    async with worker(router.address, mesh.model) as hands:
        async with gateway(router.address) as client:
            await mesh.publish(request)
            batch = await hands.batch()
            await hands.make(batch.entries[0], "ab")
            await client.until_text(request.id, "ab")
        await hands.make(batch.entries[0], "cd", at=2)
        await hands.finish(batch)
        await mesh.result(request)
        held = HeldStream(request_id=request.id, token_ids=tuple(b"ab"), text="ab")
        async with gateway(router.address, held=(held,)) as client:
            await client.outcome(request.id)
            assert client.text[request.id] == "abcd"


async def test_more_urgent_work_goes_first_then_the_older(mesh: Mesh) -> None:
    """With one lane busy, what waits is taken by class, and within a class by arrival."""
    router = await mesh.start_router("r-1")
    async with worker(router.address, mesh.model, max_batch=1) as hands:
        await mesh.publish(a_request(prompt="blocker"))
        running = await hands.batch()
        waiting = [
            a_request(prompt="normal 1"),
            a_request(prompt="normal 2"),
            a_request(prompt="batch", priority=Priority.BATCH),
            a_request(prompt="realtime", priority=Priority.REALTIME),
        ]
        for request in waiting:
            await mesh.publish(request)
        await mesh.held(1 + len(waiting))
        order = []
        await hands.finish(running)
        for _ in waiting:
            batch = await hands.batch()
            order.append(bytes(batch.entries[0].prompt).decode())
            await hands.finish(batch)
        assert order == ["realtime", "normal 1", "normal 2", "batch"]


async def test_cancel_stops_the_worker_and_answers_when_it_is_durable(mesh: Mesh) -> None:
    """The one who asks is told the outcome, and what was made is kept in it."""
    router = await mesh.start_router("r-1")
    async with worker(router.address, mesh.model) as hands:
        request = a_request()
        await mesh.publish(request)
        batch = await hands.batch()
        subject = cancel_subject(request.tenant, request.id)
        reply = await mesh.nats.request(subject, b"", timeout=5)
        assert reply.data == b"cancelled"
        assert await hands.cancelled() == batch.entries[0].assignment
        assert (await mesh.result(request)).kind is OutcomeKind.CANCELLED


async def test_a_request_cancelled_before_it_is_pulled_is_never_computed(mesh: Mesh) -> None:
    """A cancellation that overtakes its request is remembered."""
    router = await mesh.start_router("r-1")
    request = a_request()
    await mesh.nats.publish(cancel_subject(request.tenant, request.id))
    await flushed(mesh.nats)
    async with worker(router.address, mesh.model):
        await mesh.publish(request)
        outcome = await mesh.result(request)
    assert outcome.kind is OutcomeKind.CANCELLED
    assert outcome.usage.attempts == 0


async def test_a_deadline_that_passes_while_waiting_ends_the_request(mesh: Mesh) -> None:
    """No compute is spent on it."""
    router = await mesh.start_router("r-1")
    async with worker(router.address, mesh.model, max_batch=1) as hands:
        await mesh.publish(a_request())
        await hands.batch()
        late = a_request(deadline_s=time.time() + 0.3)
        await mesh.publish(late)
        outcome = await mesh.result(late)
        assert outcome.kind is OutcomeKind.EXPIRED
        assert outcome.usage.attempts == 0


async def test_an_engine_error_is_tried_again_and_then_a_dead_letter(mesh: Mesh) -> None:
    """After as many attempts as the setting says, and its outcome is FAILED."""
    router = await mesh.start_router("r-1")
    request = a_request()
    async with worker(router.address, mesh.model) as hands:
        await mesh.publish(request)
        for attempt in range(1, 6):
            batch = await hands.batch()
            assert batch.entries[0].attempt == attempt
            end = EntryEnd(failure=Failure(code="ENGINE_FAILED", message="the engine failed: out of memory"))
            await hands.send(
                EntryProgress(assignment=batch.entries[0].assignment, end=end),
                ended=(BatchEnded(batch=batch.batch, lane=batch.lane),),
            )
        outcome = await mesh.result(request)
    assert outcome.kind is OutcomeKind.FAILED
    assert outcome.failure is not None
    assert outcome.failure.code == "TOO_MANY_ATTEMPTS"
    dead = await mesh.nats.jetstream().get_last_msg("HEADRACE_DEAD", "hr.v1.dead.fake.default")
    assert dead.data


async def test_a_raw_producer_reads_chunks_and_outcome_as_json(mesh: Mesh) -> None:
    """JSON in, JSON out: indexed chunks on the reply subject, then the end, and the durable result."""
    router = await mesh.start_router("r-1")
    events = await mesh.nats.subscribe("my.replies")
    async with worker(router.address, mesh.model) as hands:
        await mesh.publish_json("hr.v1.req.fake.normal.default", {"prompt": "hi", "reply_to": "my.replies"})
        batch = await hands.batch()
        await hands.make(batch.entries[0], "yo")
        first = json.loads((await events.next_msg(5)).data)
        assert first["tokens"] == {
            "first_index": 0,
            "token_ids": [121, 111],
            "text": "yo",
            "text_lengths": [1, 1],
        }
        await hands.finish(batch)
        last = json.loads((await events.next_msg(5)).data)
        assert last["finished"]["kind"] == "OUTCOME_KIND_COMPLETED"
        assert last["finished"]["usage"]["output_tokens"] == 2
        stored = await mesh.nats.jetstream().get_last_msg(
            "HEADRACE_RESULTS", f"hr.v1.res.default.{last['request_id']}"
        )
        assert json.loads(stored.data or b"")["text"] == "yo"


@pytest.mark.parametrize(
    ("subject", "body", "code", "says"),
    [
        ("hr.v1.req.fake.normal.default", b"{not json", "MALFORMED_MESSAGE", "is not JSON"),
        ("hr.v1.req.fake.normal.default", b'{"promt": "x"}', "MALFORMED_MESSAGE", "no field promt"),
        (
            "hr.v1.req.fake.urgent.default",
            b'{"prompt": "x"}',
            "INVALID_REQUEST",
            "realtime, high, normal, batch",
        ),
        ("hr.v1.req.fake.normal", b'{"prompt": "x"}', "INVALID_REQUEST", "<model>.<priority>.<tenant>"),
        ("hr.v1.req.fake.normal.default", b'{"prompt": "x", "id": "1"}', "INVALID_REQUEST", "ULID"),
        (
            "hr.v1.req.fake.normal.default",
            b'{"prompt": "x", "reply_to": "hr.v1.req.a.b.c"}',
            "INVALID_REQUEST",
            "reply_to",
        ),
    ],
)
async def test_what_nobody_can_answer_is_kept_with_its_reason(
    mesh: Mesh, subject: str, body: bytes, code: str, says: str
) -> None:
    """A malformed message becomes a dead letter, and leaves its queue for good."""
    router = await mesh.start_router("r-1")
    letters = await mesh.nats.subscribe("hr.v1.dead.>")
    async with worker(router.address, mesh.model):
        await mesh.nats.jetstream().publish(subject, body)
        letter = await letters.next_msg(5)
        assert code.encode() in letter.data
        assert says.encode() in letter.data
        await mesh.queues_are_empty()


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"model": "nobody"}, "UNKNOWN_MODEL", "available: fake"),
        ({"prompt": ""}, "INVALID_REQUEST", "prompt"),
        ({"prompt": "x" * 5000}, "INVALID_REQUEST", "5000 tokens; the context length is 4096"),
        ({"prompt": "x" * 4000, "max_tokens": 200}, "INVALID_REQUEST", "at most 96 are left"),
        ({"deadline_s": 1.0}, "DEADLINE_PASSED", "has passed"),
    ],
)
async def test_what_breaks_a_limit_is_refused_with_the_numbers(
    mesh: Mesh, changes: dict[str, object], code: str, says: str
) -> None:
    """The outcome is durable, names the limit, and no worker was troubled."""
    router = await mesh.start_router("r-1")
    async with worker(router.address, mesh.model):
        request = a_request(**changes)
        await mesh.publish(request)
        outcome = await mesh.result(request)
    assert outcome.kind in (OutcomeKind.REJECTED, OutcomeKind.EXPIRED)
    assert outcome.failure is not None
    assert outcome.failure.code == code
    assert says in outcome.failure.message


async def test_an_id_used_twice_leaves_the_first_alone(mesh: Mesh) -> None:
    """The second message, which asks for something else, becomes a dead letter, and its consumer is told."""
    router = await mesh.start_router("r-1")
    letters = await mesh.nats.subscribe("hr.v1.dead.>")
    events = await mesh.nats.subscribe("second")
    request = a_request()
    async with worker(router.address, mesh.model) as hands:
        body = {"prompt": "one", "id": request.id}
        await mesh.publish_json("hr.v1.req.fake.normal.default", body)
        batch = await hands.batch()
        other = {"prompt": "two", "id": request.id, "reply_to": "second"}
        await mesh.publish_json("hr.v1.req.fake.normal.default", other)
        letter = decode_dead_letter((await letters.next_msg(5)).data)
        assert (letter.failure.code, letter.request_id) == ("DUPLICATE_REQUEST", request.id)
        told = json.loads((await events.next_msg(5)).data)["finished"]
        assert (told["kind"], told["error"]["code"]) == ("OUTCOME_KIND_REJECTED", "DUPLICATE_REQUEST")
        await hands.finish(batch)
        assert (await mesh.result(request)).kind is OutcomeKind.COMPLETED


async def test_an_answered_id_is_answered_from_its_outcome(mesh: Mesh) -> None:
    """A second message with the id of a request that has ended is not computed: its consumer gets that outcome."""
    router = await mesh.start_router("r-1")
    request = a_request()
    async with worker(router.address, mesh.model) as hands:
        await mesh.publish_json("hr.v1.req.fake.normal.default", {"prompt": "one", "id": request.id})
        batch = await hands.batch()
        await hands.make(batch.entries[0], "ok")
        await hands.finish(batch)
        await mesh.result(request)
        events = await mesh.nats.subscribe("again")
        again = {"prompt": "one", "id": request.id, "reply_to": "again"}
        await mesh.publish_json("hr.v1.req.fake.normal.default", again)
        event = json.loads((await events.next_msg(5)).data)
        assert event["finished"]["usage"]["attempts"] == 1
        assert (await mesh.result(request)).text == "ok"


async def test_messages_at_the_brokers_limit_end_like_others(mesh: Mesh) -> None:
    """A dead letter over the limit is kept without its content, a result by reference, and nobody is cut off."""
    router = await mesh.start_router("r-1")
    letters = await mesh.nats.subscribe("hr.v1.dead.>")
    async with worker(router.address, mesh.model) as hands:
        limit = mesh.nats.max_payload
        await mesh.nats.jetstream().publish("hr.v1.req.fake.normal.default", b"{" + b" " * (limit - 200))
        assert b"MALFORMED_MESSAGE" in (await letters.next_msg(5)).data
        request = a_request(max_tokens=4000)
        await mesh.publish(request)
        batch = await hands.batch()
        huge = TokenChunk(first_index=0, token_ids=(120,), text="x" * limit)
        await hands.send(EntryProgress(assignment=batch.entries[0].assignment, tokens=huge))
        await hands.finish(batch)
        outcome = await mesh.result(request)
    assert outcome.kind is OutcomeKind.COMPLETED
    assert (outcome.text, outcome.failure) == ("", None)
    assert outcome.payload is not None
    assert outcome.payload.size_bytes > limit


async def test_a_drained_router_gives_back_what_it_holds(mesh: Mesh) -> None:
    """What waited and what ran past the grace is answered by the next router."""
    first = await mesh.start_router("r-1")
    running, waiting = a_request(prompt="running"), a_request(prompt="waiting")
    async with worker(first.address, mesh.model, max_batch=1) as hands:
        await mesh.publish(running)
        await hands.batch()
        await mesh.publish(waiting)
        await first.stop()
    second = await mesh.start_router("r-2")
    async with worker(second.address, mesh.model) as hands:
        for _ in range(2):
            await hands.finish(await hands.batch())
        assert (await mesh.result(running)).kind is OutcomeKind.COMPLETED
        assert (await mesh.result(waiting)).kind is OutcomeKind.COMPLETED


async def test_a_worker_that_hangs_is_given_up_and_its_work_goes_on_elsewhere(mesh: Mesh) -> None:
    """A stream that stays open and silent is as good as lost after the set time."""
    router = await mesh.start_router("r-1")
    request = a_request()
    async with worker(router.address, mesh.model, worker_id="w-1") as silent:
        await mesh.publish(request)
        await silent.batch()
        async with worker(router.address, mesh.model, worker_id="w-2", heartbeat_s=0.2) as second:
            batch = await second.batch()
            assert batch.entries[0].attempt == 2
            await second.finish(batch)
            assert (await mesh.result(request)).kind is OutcomeKind.COMPLETED


async def test_a_router_that_stood_still_takes_no_worker_for_lost(mesh: Mesh) -> None:
    """Nobody could say anything to it meanwhile: a machine that slept is not a fleet that died."""
    router = await mesh.start_router("r-1")
    request = a_request()
    async with worker(router.address, mesh.model, heartbeat_s=0.2) as hands:
        await mesh.publish(request)
        batch = await hands.batch()
        time.sleep(2.0)  # noqa: ASYNC251 — longer than the router's patience with workers, on its own event loop
        await hands.make(batch.entries[0], "on")
        await hands.finish(batch)
        outcome = await mesh.result(request)
    assert (outcome.text, outcome.usage.attempts) == ("on", 1)
