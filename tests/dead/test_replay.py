"""A request that was given up is asked again: once, under a new id, and its letter goes."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import nats.errors
import pytest

from headrace.contract.ids import is_request_id
from headrace.contract.queue_wire import decode_request, encode_request
from headrace.contract.subjects import (
    CONTENT_TYPE_PROTOBUF,
    HEADER_CONTENT_TYPE,
    HEADER_REQUEST_ID,
    REQUESTS_STREAM,
    parse_queue,
)
from headrace.contract.values import FinishReason, OutcomeKind
from headrace.dead.replay import HEADER_REPLAY_OF, CannotReplay, plan_replay, publish, replay
from tests.dead.lying import QUEUE, a_dead, a_letter, as_json, every, fail_for_good, give_up, lay, the_letter
from tests.router.conftest import Mesh, a_request
from tests.router.peers import ScriptedWorker, worker

NOW_S = 1_795_000_100.0
PROTOBUF = {HEADER_CONTENT_TYPE: CONTENT_TYPE_PROTOBUF}


def test_the_new_id_follows_from_the_letter() -> None:
    """The same at each try, another for another letter, and a proper one."""
    once, again = plan_replay(a_letter(), now_s=NOW_S), plan_replay(a_letter(), now_s=NOW_S + 9)
    assert once.new_request_id == again.new_request_id
    assert is_request_id(once.new_request_id)
    assert once.new_request_id != plan_replay(a_letter(8), now_s=NOW_S).new_request_id


def test_json_stays_json_and_takes_the_new_id_in_the_body_too() -> None:
    """An id in the body goes before the header; what was asked stays as it was, to the letter."""
    old = a_request().id
    body = {"id": old, "prompt": "größer ≥ 𝄞", "sampling": {"temperature": 0.7}, "max_tokens": 5}
    planned = plan_replay(a_letter(body=json.dumps(body).encode()), now_s=NOW_S)
    assert as_json(planned.body) == body | {"id": planned.new_request_id}
    assert "größer ≥ 𝄞".encode() in planned.body


def test_a_gateways_request_no_longer_names_the_gateway() -> None:
    """Its client was told that it failed: nobody there knows the new id."""
    request = a_request(gateway="gw-1", stop=("x",))
    letter = a_letter(body=encode_request(request), headers=PROTOBUF, request_id=request.id)
    planned = plan_replay(letter, now_s=NOW_S)
    asked = decode_request(planned.body, CONTENT_TYPE_PROTOBUF, parse_queue(planned.subject))
    assert (asked.id, asked.gateway, asked.stop) == (planned.new_request_id, "", ("x",))
    assert planned.request_id == planned.headers[HEADER_REPLAY_OF] == request.id


def test_headers_go_with_it_except_orders_to_the_broker() -> None:
    """The trace and the producer's own stay; what the broker would obey or refuse by does not."""
    parent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    headers = {
        "traceparent": parent,
        "ce-type": "ask",
        HEADER_REQUEST_ID: "x",
        "Nats-Expected-Last-Sequence": "3",
        "nats-rollup": "all",
    }
    planned = plan_replay(a_letter(headers=headers), now_s=NOW_S)
    assert planned.headers == {
        "traceparent": parent,
        "ce-type": "ask",
        HEADER_REQUEST_ID: planned.new_request_id,
        HEADER_REPLAY_OF: planned.request_id,
        "Nats-Expected-Stream": REQUESTS_STREAM,
    }


def test_a_letter_without_an_id_is_named_by_its_place() -> None:
    """A message that was buried before its id counted."""
    planned = plan_replay(a_letter(request_id=""), now_s=NOW_S)
    assert (planned.request_id, planned.headers[HEADER_REPLAY_OF]) == ("", "HEADRACE_DEAD/7")
    own = a_request().id
    twice = a_letter(request_id="", body=json.dumps({"prompt": "x", "id": own}).encode())
    assert plan_replay(twice, now_s=NOW_S).request_id == own


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"body": b"{not json"}, "is not JSON"),
        ({"body": b'{"promt": "x"}'}, "no field promt"),
        ({"body": b"\xff", "headers": PROTOBUF}, "is not a QueuedRequest"),
        ({"headers": {HEADER_CONTENT_TYPE: "text/plain"}}, "Content-Type"),
        ({"subject": "hr.v1.req.fake.urgent.default"}, "realtime, high, normal, batch"),
        ({"subject": "hr.v1.res.default.x"}, "must begin with hr.v1.req."),
        ({"body": b'{"prompt": "x", "reply_to": "hr.v1.req.a.b.c"}'}, "reply_to"),
        ({"body": b""}, "too large to be kept"),
        ({"headers": {"X": "1\r\nNats-Rollup: all"}}, "line breaks"),
        ({"body": b'{"prompt": "x", "deadline": "2026-11-16T00:00:00Z"}'}, "its deadline passed"),
    ],
)
def test_what_cannot_be_asked_again_is_refused_with_the_reason(changes: dict[str, Any], says: str) -> None:
    """What no router could read, what is not whole, what would be too late: nothing is published."""
    with pytest.raises(CannotReplay, match="letter 7 cannot be replayed") as refused:
        plan_replay(a_letter(**changes), now_s=NOW_S)
    assert says in refused.value.reason


def test_a_passed_deadline_can_be_left_out_and_a_coming_one_stays() -> None:
    """An answer that is wanted all the same."""
    passed = a_letter(body=b'{"prompt": "x", "deadline": "2026-11-16T00:00:00Z"}')
    assert "deadline" not in as_json(plan_replay(passed, now_s=NOW_S, without_deadline=True).body)
    coming = a_letter(body=b'{"prompt": "x", "deadline": "2036-11-16T00:00:00Z"}')
    assert "deadline" in as_json(plan_replay(coming, now_s=NOW_S, without_deadline=True).body)


@pytest.mark.integration
class TestWithARouter:
    """Real broker, real router, and a worker that does what the test says."""

    async def test_a_failed_request_is_answered_under_its_new_id(self, mesh: Mesh) -> None:
        """Its letter is gone; the old id keeps its one outcome, failed, and the new one has its own."""
        router = await mesh.start_router("r-1")
        request = a_request(gateway="gw-1")
        async with worker(router.address, mesh.model) as hands:
            await give_up(mesh, hands, request)
            letters, letter = await the_letter(mesh.nats)
            assert (letter.dead.request_id, letter.dead.attempts) == (request.id, 5)
            made = await replay(letters, letter)
            assert (made.request_id, made.again) == (request.id, False)
            assert await every(mesh.nats) == []
            await answer(hands, made.new_request_id, "ok")
            outcome = await mesh.result(a_request(id=made.new_request_id))
        assert (outcome.kind, outcome.text) == (OutcomeKind.COMPLETED, "ok")
        assert (await mesh.result(request)).kind is OutcomeKind.FAILED
        assert await queued(mesh) == 0

    async def test_a_producers_request_is_answered_where_it_listens(self, mesh: Mesh) -> None:
        """A raw JSON request without an id: its reply subject gets the replay's chunks, as JSON."""
        router = await mesh.start_router("r-1")
        events = await mesh.nats.subscribe("my.replies")
        async with worker(router.address, mesh.model) as hands:
            await mesh.publish_json(QUEUE, {"prompt": "hello", "reply_to": "my.replies"})
            await fail_for_good(hands)
            failed = json.loads((await events.next_msg(10)).data)
            letters, letter = await the_letter(mesh.nats)
            made = await replay(letters, letter)
            assert made.request_id == failed["request_id"]
            await answer(hands, made.new_request_id, "ok")
            chunk = json.loads((await events.next_msg(10)).data)
        assert (chunk["request_id"], chunk["tokens"]["text"]) == (made.new_request_id, "ok")

    async def test_a_replay_that_crashed_before_it_removed_the_letter(self, mesh: Mesh) -> None:
        """Begun anew it finishes the first: one message, one computation, one outcome, and no letter."""
        router = await mesh.start_router("r-1")
        async with worker(router.address, mesh.model) as hands:
            await give_up(mesh, hands, a_request())
            letters, letter = await the_letter(mesh.nats)
            assert not await publish(letters, plan_replay(letter, now_s=time.time()))
            made = await replay(letters, letter)
            assert made.again
            assert await every(mesh.nats) == []
            assert await queued(mesh) == 1
            await answer(hands, made.new_request_id, "ok")
            await mesh.result(a_request(id=made.new_request_id))
            await nothing_runs(mesh, hands)

    async def test_a_crash_that_is_noticed_after_the_duplicate_window(self, mesh: Mesh) -> None:
        """The broker no longer knows the message, but the router finds its outcome: it is not computed again."""
        router = await mesh.start_router("r-1")
        async with worker(router.address, mesh.model) as hands:
            await give_up(mesh, hands, a_request())
            letters, letter = await the_letter(mesh.nats)
            planned = plan_replay(letter, now_s=time.time())
            await publish(letters, planned)
            await answer(hands, planned.new_request_id, "ok")
            await mesh.result(a_request(id=planned.new_request_id))
        await forget_ids(mesh)
        async with worker(router.address, mesh.model) as hands:
            made = await replay(letters, letter)
            assert (made.again, made.new_request_id) == (False, planned.new_request_id)
            await nothing_runs(mesh, hands)
        assert await every(mesh.nats) == []
        assert (await mesh.result(a_request(id=planned.new_request_id))).text == "ok"

    async def test_two_people_replay_the_same_letter(self, mesh: Mesh) -> None:
        """It is asked once, and both are told the same id."""
        await mesh.start_router("r-1")
        await lay(mesh.nats, a_dead())
        letters, letter = await the_letter(mesh.nats)
        made = await asyncio.gather(*(replay(letters, letter) for _ in range(2)))
        assert sorted(one.again for one in made) == [False, True]
        assert made[0].new_request_id == made[1].new_request_id
        assert await queued(mesh) == 1

    async def test_a_replay_that_fails_again_is_a_letter_again(self, mesh: Mesh) -> None:
        """With the id of the replay; and its own replay has a third."""
        router = await mesh.start_router("r-1")
        async with worker(router.address, mesh.model) as hands:
            await give_up(mesh, hands, a_request())
            letters, letter = await the_letter(mesh.nats)
            first = await replay(letters, letter)
            await fail_for_good(hands)
            await mesh.result(a_request(id=first.new_request_id))
            letters, letter = await the_letter(mesh.nats)
            assert letter.dead.request_id == first.new_request_id
            second = await replay(letters, letter)
            assert second.request_id == first.new_request_id
            await answer(hands, second.new_request_id, "ok")

    async def test_a_malformed_message_stays(self, mesh: Mesh) -> None:
        """Refused with the reason that it was buried for; the letter is not touched."""
        router = await mesh.start_router("r-1")
        async with worker(router.address, mesh.model):
            told = await mesh.nats.subscribe("hr.v1.dead.>")
            await mesh.nats.jetstream().publish(QUEUE, b'{"promt": "x"}')
            await told.next_msg(10)
        letters, letter = await the_letter(mesh.nats)
        with pytest.raises(CannotReplay, match="no field promt"):
            await replay(letters, letter)
        assert len(await every(mesh.nats)) == 1

    async def test_a_message_that_was_too_large_to_keep(self, mesh: Mesh) -> None:
        """Its letter holds its reason alone, and says so."""
        router = await mesh.start_router("r-1")
        async with worker(router.address, mesh.model):
            told = await mesh.nats.subscribe("hr.v1.dead.>")
            await mesh.nats.jetstream().publish(QUEUE, b"{" + b" " * (mesh.nats.max_payload - 200))
            await told.next_msg(10)
        letters, letter = await the_letter(mesh.nats)
        with pytest.raises(CannotReplay, match="too large to be kept"):
            await replay(letters, letter)

    async def test_a_full_queue_leaves_the_letter(self, mesh: Mesh) -> None:
        """The reason says what to do, and nothing is lost."""
        await mesh.start_router("r-1")
        await lay(mesh.nats, a_dead())
        await change_requests(mesh, max_msgs_per_subject=1)
        await mesh.publish_json(QUEUE, {"prompt": "first"})
        letters, letter = await the_letter(mesh.nats)
        with pytest.raises(CannotReplay, match="its queue is full"):
            await replay(letters, letter)
        assert len(await every(mesh.nats)) == 1


async def answer(hands: ScriptedWorker, request_id: str, text: str) -> None:
    """Runs the next request, which must be that one."""
    batch = await hands.batch()
    assert batch.entries[0].request_id == request_id
    await hands.make(batch.entries[0], text)
    await hands.finish(batch, FinishReason.END)


async def nothing_runs(mesh: Mesh, hands: ScriptedWorker) -> None:
    """All that was asked is settled, and the worker has got nothing of it: the next it gets is a new request."""
    async with asyncio.timeout(5):
        while await queued(mesh):  # noqa: ASYNC110 (JetStream tells of no deletion, so it is asked)
            await asyncio.sleep(0.02)
    marker = a_request()
    await mesh.publish(marker)
    await answer(hands, marker.id, "")


async def queued(mesh: Mesh) -> int:
    """Requests that wait or run."""
    return (await mesh.nats.jetstream().stream_info(REQUESTS_STREAM)).state.messages


async def change_requests(mesh: Mesh, **changes: object) -> None:
    """Another setting of the queues, under a router that runs."""
    js = mesh.nats.jetstream()
    config = (await js.stream_info(REQUESTS_STREAM)).config
    await js.update_stream(config.evolve(**changes))


async def forget_ids(mesh: Mesh) -> None:
    """The broker forgets the ids of messages that are gone, as it does with time: it is started anew."""
    await mesh.restart_nats(away_s=0.0)
    async with asyncio.timeout(20):
        while True:  # nothing tells that the client has noticed both
            try:
                await mesh.nats.jetstream(timeout=1.0).account_info()
                return
            except (nats.errors.Error, TimeoutError):
                await asyncio.sleep(0.02)
