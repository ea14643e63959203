"""Several routers and one request: who has it, and from where it goes on. Real broker, real gRPC."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import nats.aio.subscription
import pytest

from headrace.contract.deliver import GatewayJoin, HeldStream
from headrace.contract.ids import derived_request_id
from headrace.contract.values import GREEDY, Failure, OutcomeKind, Sampling
from headrace.contract.work import BatchEnded, EntryEnd, EntryProgress, StartBatch
from headrace.router.outcomes import Outcomes
from headrace.runtime.nats_flush import flushed
from tests.router.conftest import Mesh, a_request
from tests.router.peers import ScriptedWorker, gateway, worker

pytestmark = pytest.mark.integration

QUEUE = "hr.v1.req.fake.normal.default"
SAMPLED = Sampling(temperature=0.8)


@asynccontextmanager
async def living(address: str, mesh: Mesh, worker_id: str, **others: Any) -> AsyncIterator[ScriptedWorker]:
    """A worker that says often enough that it lives."""
    async with worker(address, mesh.model, worker_id=worker_id, heartbeat_s=0.3, **others) as hands:
        yield hands


async def fail(hands: ScriptedWorker, batch: StartBatch) -> None:
    """The only entry of a batch fails, and the batch ends."""
    end = EntryEnd(failure=Failure(code="ENGINE_FAILED", message="the engine failed: out of memory"))
    await hands.send(
        EntryProgress(assignment=batch.entries[0].assignment, end=end),
        ended=(BatchEnded(batch=batch.batch, lane=batch.lane),),
    )


class Events:
    """What a consumer on NATS reads."""

    def __init__(self, subscription: nats.aio.subscription.Subscription) -> None:
        self._subscription = subscription
        self.text = ""
        self.firsts: list[int] = []

    async def until(self, text: str) -> None:
        while self.text != text:
            event = await self._next()
            tokens = event["tokens"]
            self.firsts.append(tokens["first_index"])
            assert tokens["first_index"] == len(self.text), "no gap and no repeat"
            self.text += tokens["text"]

    async def finished(self) -> dict[str, Any]:
        finished: dict[str, Any] = (await self._next())["finished"]
        return finished

    async def _next(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads((await self._subscription.next_msg(10)).data)
        return event


async def events(mesh: Mesh, subject: str) -> Events:
    subscription = await mesh.nats.subscribe(subject)
    await flushed(mesh.nats)
    return Events(subscription)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
async def test_a_killed_routers_request_goes_on_at_another(mesh: Mesh, sampling: Sampling) -> None:
    """The gateway, which is linked to both, says what its client has; each token comes once, and the usage says so."""
    first, second = await mesh.start_router("r-1"), await mesh.start_router("r-2")
    request = a_request(gateway="gw-1", sampling=sampling)
    async with gateway(first.address) as client, client.join(second.address):
        async with living(first.address, mesh, "w-1") as hands:
            await mesh.publish(request)
            batch = await hands.batch()
            await hands.make(batch.entries[0], "abc")
            await client.until_text(request.id, "abc")
            await first.kill()
        async with living(second.address, mesh, "w-2") as hands:
            batch = await hands.batch()
            (entry,) = batch.entries
            assert bytes(entry.generated) == b"abc"
            assert client.recalled == [request.id]
            await hands.make(entry, "def")
            await hands.finish(batch)
            outcome = await client.outcome(request.id)
    assert client.text[request.id] == "abcdef"
    assert outcome.usage.resumptions == 1
    stored = await mesh.result(request)
    assert (stored.text, stored.text_lengths) == ("abcdef", (1,) * 6)


async def test_what_an_earlier_router_made_is_kept_by_a_deadline(mesh: Mesh) -> None:
    """It passed while nobody had the request: the outcome holds what was made."""
    first, second = await mesh.start_router("r-1"), await mesh.start_router("r-2")
    request = a_request(gateway="gw-1", deadline_s=time.time() + 1.0)
    async with gateway(first.address) as client, client.join(second.address):
        async with living(first.address, mesh, "w-1") as hands:
            await mesh.publish(request)
            batch = await hands.batch()
            await hands.make(batch.entries[0], "abc")
            await client.until_text(request.id, "abc")
            await first.kill()
        async with living(second.address, mesh, "w-2"):
            outcome = await mesh.result(request)
    assert (outcome.kind, outcome.text, outcome.usage.output_tokens) == (OutcomeKind.EXPIRED, "abc", 3)


@pytest.mark.parametrize("ends", [False, True])
async def test_a_router_that_stood_still_lets_go_when_it_wakes(mesh: Mesh, ends: bool) -> None:
    """Its gateway and its worker never left it. What that worker made and ended meanwhile does not count."""
    first = await mesh.start_process("r-1")
    second = await mesh.start_router("r-2")
    request = a_request(gateway="gw-1", sampling=SAMPLED)
    async with (
        gateway(first.address) as client,
        client.join(second.address),
        living(first.address, mesh, "w-1") as hands,
    ):
        await mesh.publish(request)
        batch = await hands.batch()
        (entry,) = batch.entries
        await hands.make(entry, "abc")
        await client.until_text(request.id, "abc")
        first.freeze()
        async with living(second.address, mesh, "w-2") as others:
            taken = await others.batch()
            assert bytes(taken.entries[0].generated) == b"abc"
            await others.make(taken.entries[0], "XY")
            await client.until_text(request.id, "abcXY")
            await hands.make(entry, "zzz", at=3)
            if ends:
                await hands.finish(batch)
            first.wake()
            if not ends:
                assert await hands.cancelled() == entry.assignment
            await others.make(taken.entries[0], "Z", at=5)
            await others.finish(taken)
            outcome = await client.outcome(request.id)
    assert client.text[request.id] == "abcXYZ"
    assert outcome.usage.output_tokens == 6
    assert (await mesh.result(request)).text == "abcXYZ"


async def test_a_router_that_stood_still_publishes_nothing_before_it_knows(mesh: Mesh) -> None:
    """On NATS nobody could tell its tokens from those of the router that has taken the request."""
    first = await mesh.start_process("r-1")
    second = await mesh.start_router("r-2")
    consumer = await events(mesh, "replies")
    async with living(first.address, mesh, "w-1") as hands:
        await mesh.publish_json(QUEUE, {"prompt": "hello", "reply_to": "replies"})
        batch = await hands.batch()
        await hands.make(batch.entries[0], "abc")
        await consumer.until("abc")
        first.freeze()
        async with living(second.address, mesh, "w-2") as others:
            taken = await others.batch()
            assert taken.entries[0].generated == ()
            consumer.text = ""  # a chunk from index 0 on replaces what there was
            await others.make(taken.entries[0], "ABCD")
            await consumer.until("ABCD")
            await hands.make(batch.entries[0], "zzz", at=3)
            first.wake()
            assert await hands.cancelled() == batch.entries[0].assignment
            await others.make(taken.entries[0], "E", at=4)
            await others.finish(taken)
            await consumer.until("ABCDE")
            assert (await consumer.finished())["usage"]["output_tokens"] == 5


async def test_a_drained_routers_request_goes_on_without_a_repeat_on_nats(mesh: Mesh) -> None:
    """Nobody but the router knows how far a consumer on NATS is: it hands that over."""
    first = await mesh.start_router("r-1", **{"router.drain_grace_s": 0.1})
    second = await mesh.start_router("r-2")
    consumer = await events(mesh, "replies")
    async with living(first.address, mesh, "w-1") as hands:
        await mesh.publish_json(QUEUE, {"prompt": "hello", "reply_to": "replies"})
        batch = await hands.batch()
        await hands.make(batch.entries[0], "abc")
        await consumer.until("abc")
        await hands.make(batch.entries[0], "de", at=3)
        async with living(second.address, mesh, "w-2") as others:
            await first.stop()
            batch = await others.batch()
            assert (bytes(batch.entries[0].generated), batch.entries[0].attempt) == (b"abcde", 2)
            await others.make(batch.entries[0], "f")
            await others.finish(batch)
            await consumer.until("abcdef")
            usage = (await consumer.finished())["usage"]
    assert (usage["attempts"], usage["resumptions"], usage["output_tokens"]) == (2, 1, 6)


async def test_attempts_that_were_lost_count_on_at_the_next_router(mesh: Mesh) -> None:
    """A request that kills what runs it is given up after as many as one router would allow."""
    first = await mesh.start_router("r-1", **{"router.max_attempts": 3, "router.drain_grace_s": 0.1})
    second = await mesh.start_router("r-2", **{"router.max_attempts": 3, "router.claim_wait_s": 5.0})
    request = a_request()
    async with living(first.address, mesh, "w-1") as hands:
        await mesh.publish(request)
        await fail(hands, await hands.batch())
        await fail(hands, await hands.batch())
        await hands.batch()
        async with living(second.address, mesh, "w-2") as others:
            await first.stop()
            batch = await others.batch()
            assert batch.entries[0].attempt == 4
            await fail(others, batch)
            outcome = await mesh.result(request)
    assert outcome.kind is OutcomeKind.FAILED
    assert outcome.failure is not None
    assert "given up after 3 attempts" in outcome.failure.message


async def test_a_router_at_work_keeps_what_the_broker_gives_to_another(mesh: Mesh) -> None:
    """A lease that lapsed is no death: the owner says that it is at work, and the other lets go, every time."""
    # It says too seldom that it is at work, and pulls nothing beside.
    first = await mesh.start_router("r-1", **{"router.ack_wait_s": 60.0, "router.max_held": 1})
    second = await mesh.start_router("r-2")
    claims = await mesh.nats.subscribe("hr.v1.claim.>")
    async with (
        gateway(first.address) as client,
        client.join(second.address),
        living(first.address, mesh, "w-1") as hands,
    ):
        request = a_request(gateway="gw-1")
        await mesh.publish(request)
        batch = await hands.batch()
        async with living(second.address, mesh, "w-2"):  # its router has the broker wait for one second only
            for number, letter in enumerate("abc"):
                await claims.next_msg(10)
                await hands.make(batch.entries[0], letter, at=number)
                await client.until_text(request.id, "abc"[: number + 1])
            await hands.finish(batch)
            outcome = await client.outcome(request.id)
    assert (outcome.usage.attempts, client.recalled, client.fenced) == (1, [], 0)


async def test_a_broker_that_was_away_changes_nothing_for_what_runs(mesh: Mesh) -> None:
    """Longer than the leases are: nobody else could get the request meanwhile, and who gets it then asks."""
    first, second = await mesh.start_router("r-1"), await mesh.start_router("r-2")
    request = a_request(gateway="gw-1")
    async with (
        gateway(first.address) as client,
        client.join(second.address),
        living(first.address, mesh, "w-1") as hands,
    ):
        await mesh.publish(request)
        batch = await hands.batch()
        async with living(second.address, mesh, "w-2") as others:
            await mesh.restart_nats(away_s=1.5)
            await hands.make(batch.entries[0], "abc")
            await client.until_text(request.id, "abc")
            await asyncio.sleep(1.5)  # the broker may have given it to the other by now
            await hands.make(batch.entries[0], "d", at=3)
            await hands.finish(batch)
            outcome = await client.outcome(request.id)
            assert (client.text[request.id], outcome.usage.attempts) == ("abcd", 1)
            again = a_request(gateway="gw-1")
            await mesh.publish(again)  # all that was open is mended: either serves it
            done, _ = await asyncio.wait(
                {asyncio.ensure_future(hands.batch()), asyncio.ensure_future(others.batch())},
                return_when=asyncio.FIRST_COMPLETED,
            )
            ((entry,),) = [task.result().entries for task in done]
            assert entry.request_id == again.id


async def test_what_a_lost_worker_ran_goes_on_at_the_router_that_has_another(mesh: Mesh) -> None:
    """A router without lanes for it gives it to its peer, with all that was made."""
    first, second = await mesh.start_router("r-1"), await mesh.start_router("r-2")
    request = a_request(gateway="gw-1")
    async with (
        gateway(first.address) as client,
        client.join(second.address),
        living(first.address, mesh, "w-1") as hands,
    ):
        await mesh.publish(request)
        batch = await hands.batch()
        await hands.make(batch.entries[0], "abc")
        await client.until_text(request.id, "abc")
        async with living(second.address, mesh, "w-2") as others:
            hands.kill()
            batch = await others.batch()
            assert (bytes(batch.entries[0].generated), batch.entries[0].attempt) == (b"abc", 2)
            await others.make(batch.entries[0], "d")
            await others.finish(batch)
            outcome = await client.outcome(request.id)
    assert (client.text[request.id], outcome.usage.attempts) == ("abcd", 2)


async def test_what_only_a_full_router_could_run_waits_for_it(mesh: Mesh) -> None:
    """It goes to and fro between the queue and the router that cannot run it, ever more slowly; that is no failure."""
    settings = {"router.max_deliveries": 1}
    first = await mesh.start_router("r-1", **settings)
    second = await mesh.start_router("r-2", **settings, **{"router.max_held": 1})
    async with living(second.address, mesh, "w-2") as others:
        await mesh.publish(a_request())
        busy = await others.batch()
        async with living(first.address, mesh, "w-1") as hands:
            await mesh.publish(a_request())
            await hands.finish(await hands.batch())
        request = a_request()
        await mesh.publish(request)  # the pull of the first is still open
        await asyncio.sleep(0.5)
        await others.finish(busy)
        batch = await others.batch()
        assert batch.entries[0].request_id == request.id
        await others.finish(batch)
        assert (await mesh.result(request)).kind is OutcomeKind.COMPLETED


async def test_workers_are_told_of_the_living_routers(mesh: Mesh) -> None:
    """When they join, and when one comes or goes."""
    first = await mesh.start_router("r-1")
    async with living(first.address, mesh, "w-1") as hands:
        second = await mesh.start_router("r-2")
        while {peer.address for peer in hands.peers} != {first.address, second.address}:
            await hands.receive()
        async with living(second.address, mesh, "w-2") as others:
            while {peer.router_id for peer in others.peers} != {"r-1", "r-2"}:
                await others.receive()
        await second.stop()
        while {peer.router_id for peer in hands.peers} != {"r-1"}:
            await hands.receive()


async def test_a_request_that_kills_every_router_is_a_dead_letter(mesh: Mesh) -> None:
    """After as many deliveries as the setting says; its consumer is told."""
    letters = await mesh.nats.subscribe("hr.v1.dead.>")
    request = a_request()
    for number in (1, 2):
        router = await mesh.start_router(f"r-{number}", **{"router.max_deliveries": 2})
        async with living(router.address, mesh, f"w-{number}") as hands:
            if number == 1:
                await mesh.publish(request)
            await hands.batch()
            await router.kill()
    last = await mesh.start_router("r-3", **{"router.max_deliveries": 2})
    async with living(last.address, mesh, "w-3"):
        outcome = await mesh.result(request)
    assert outcome.kind is OutcomeKind.FAILED
    assert outcome.failure is not None
    assert outcome.failure.code == "TOO_MANY_ATTEMPTS"
    assert request.id.encode() in (await letters.next_msg(5)).data


async def test_orderly_releases_count_as_no_deliveries(mesh: Mesh) -> None:
    """A rolling restart is no reason to give a request up."""
    # An answer is there, however busy the machine is.
    settings = {"router.max_deliveries": 1, "router.drain_grace_s": 0.1, "router.claim_wait_s": 5.0}
    request = a_request()
    router = await mesh.start_router("r-0", **settings)
    async with AsyncExitStack() as stack:
        hands = await stack.enter_async_context(living(router.address, mesh, "w-0"))
        await mesh.publish(request)
        batch = await hands.batch()
        for number in (1, 2, 3):
            following = await mesh.start_router(f"r-{number}", **settings)
            hands = await stack.enter_async_context(living(following.address, mesh, f"w-{number}"))
            await router.stop()
            router, batch = following, await hands.batch()
        await hands.finish(batch)
        assert (await mesh.result(request)).kind is OutcomeKind.COMPLETED


async def test_a_follower_gets_the_tokens_from_where_its_client_attached(mesh: Mesh) -> None:
    """Before, during and after what it wants was made; until nobody waits there."""
    router = await mesh.start_router("r-1")
    request = a_request(gateway="gw-1")
    late = HeldStream(request_id=request.id, first_index=1)
    ahead = HeldStream(request_id=request.id, first_index=5)
    async with gateway(router.address) as client, living(router.address, mesh, "w-1") as hands:
        await mesh.publish(request)
        batch = await hands.batch()
        await hands.make(batch.entries[0], "abc")
        await client.until_text(request.id, "abc")
        async with (
            gateway(router.address, "gw-2", held=(late,)) as second,
            gateway(router.address, "gw-3", held=(ahead,)) as third,
        ):
            await second.until_text(request.id, "bc")
            await hands.make(batch.entries[0], "defg", at=3)
            await second.until_text(request.id, "bcdefg")
            await third.until_text(request.id, "fg")
            await third.streams[0].tell(left=(request.id,))
            await third.streams[0].tell(join=GatewayJoin(gateway_id="gw-3", held=(late,)))
            await third.streams[0].tell(left=(request.id,))
            await client.until_text(request.id, "abcdefg")
            await hands.make(batch.entries[0], "h", at=7)
            await hands.finish(batch)
            for reader in (client, second):
                assert (await reader.outcome(request.id)).usage.output_tokens == 8
            assert third.text[request.id] in ("fg", "fgh")


async def test_a_follower_goes_along_when_its_request_comes_back(mesh: Mesh) -> None:
    """It told each router once, and the first forgot it when it gave the request away."""
    first, second = await mesh.start_router("r-1"), await mesh.start_router("r-2")
    request = a_request(gateway="gw-1")
    held = HeldStream(request_id=request.id)
    async with (
        gateway(first.address, "gw-1") as client,
        client.join(second.address),
        gateway(first.address, "gw-2", held=(held,)) as follower,
        follower.join(second.address, (held,)),
        living(first.address, mesh, "w-1") as hands,
    ):
        await mesh.publish(request)
        batch = await hands.batch()
        await hands.make(batch.entries[0], "abc")
        await follower.until_text(request.id, "abc")
        async with living(second.address, mesh, "w-2") as others:
            hands.kill()
            batch = await others.batch()
            await others.make(batch.entries[0], "d")
            await follower.until_text(request.id, "abcd")
            async with living(first.address, mesh, "w-3") as hands:
                others.kill()
                batch = await hands.batch()
                await hands.make(batch.entries[0], "e")
                await follower.until_text(request.id, "abcde")
                await client.until_text(request.id, "abcde")
                await hands.finish(batch)
                for reader in (client, follower):
                    assert (await reader.outcome(request.id)).usage.output_tokens == 5


async def test_a_client_may_follow_what_was_asked_for_on_nats(mesh: Mesh) -> None:
    """Both get every token, and the router that takes the request over goes on from what the gateway has."""
    first, second = await mesh.start_router("r-1"), await mesh.start_router("r-2")
    consumer = await events(mesh, "replies")
    request = a_request()
    held = HeldStream(request_id=request.id)
    async with gateway(first.address, held=(held,)) as client, client.join(second.address, (held,)):
        async with living(first.address, mesh, "w-1") as hands:
            body = {"prompt": "hello", "id": request.id, "reply_to": "replies"}
            await mesh.publish_json(QUEUE, body)
            batch = await hands.batch()
            await hands.make(batch.entries[0], "abc")
            await client.until_text(request.id, "abc")
            await consumer.until("abc")
            await first.kill()
        async with living(second.address, mesh, "w-2") as hands:
            batch = await hands.batch()
            assert bytes(batch.entries[0].generated) == b"abc"
            await hands.make(batch.entries[0], "d")
            await hands.finish(batch)
            await client.outcome(request.id)
            await consumer.until("abcd")
    assert client.text[request.id] == "abcd"


async def test_two_halves_of_different_answers_are_never_joined(mesh: Mesh) -> None:
    """A router that could not ask begins anew; a client that has other tokens than it made gets only the outcome, and
    one that has the same goes on where it is.
    """
    first = await mesh.start_router("r-1")
    request = a_request(gateway="gw-1", sampling=SAMPLED)
    async with living(first.address, mesh, "w-1") as hands:
        await mesh.publish(request)
        await hands.batch()
        await first.kill()
    second = await mesh.start_router("r-2", **{"router.recall_wait_s": 0.1})
    others = HeldStream(request_id=request.id, token_ids=tuple(b"abcd"), text="abcd")
    same = HeldStream(request_id=request.id, token_ids=tuple(b"xy"), text="xy")
    async with living(second.address, mesh, "w-2") as hands:
        batch = await hands.batch()
        assert batch.entries[0].generated == ()
        async with (
            gateway(second.address, "gw-1", held=(others,)) as client,
            gateway(second.address, "gw-2", held=(same,)) as lucky,
        ):
            await hands.make(batch.entries[0], "x")
            await hands.make(batch.entries[0], "yz!?", at=1)
            await lucky.until_text(request.id, "xyz!?")
            await hands.finish(batch)
            outcome = await client.outcome(request.id)
            assert outcome.usage.output_tokens == 5
            assert client.text[request.id] == "abcd"


async def test_a_request_whose_end_fails_by_a_fault_is_delivered_again(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not held for good: the broker gives it to the same router, which ends it then."""
    settle = Outcomes.settle
    failures: list[Exception] = []

    async def faulty(self: Outcomes, *arguments: Any, **options: Any) -> None:
        if not failures:
            failures.append(ValueError("a fault of ours"))
            raise failures[0]
        await settle(self, *arguments, **options)

    monkeypatch.setattr(Outcomes, "settle", faulty)
    router = await mesh.start_router("r-1")
    request = a_request(gateway="gw-1")
    async with gateway(router.address) as client, living(router.address, mesh, "w-1") as hands:
        await mesh.publish(request)
        batch = await hands.batch()
        await hands.make(batch.entries[0], "abc")
        await hands.finish(batch)
        batch = await hands.batch()
        assert bytes(batch.entries[0].generated) == b"abc"
        await hands.finish(batch)
        await client.outcome(request.id)
    assert client.text[request.id] == "abc"


async def test_the_same_request_sent_twice_is_answered_to_both(mesh: Mesh) -> None:
    """One computation, the same events, whoever asked when; both messages leave the queue."""
    router = await mesh.start_router("r-1")
    one, two = await events(mesh, "one"), await events(mesh, "two")
    request = a_request()
    async with living(router.address, mesh, "w-1") as hands:
        await mesh.publish_json(QUEUE, {"prompt": "hello", "id": request.id, "reply_to": "one"})
        batch = await hands.batch()
        await hands.make(batch.entries[0], "abc")
        await one.until("abc")
        await mesh.publish_json(QUEUE, {"prompt": "hello", "id": request.id, "reply_to": "two"})
        await two.until("abc")
        await hands.make(batch.entries[0], "d", at=3)
        await hands.finish(batch)
        for consumer in (one, two):
            await consumer.until("abcd")
            assert (await consumer.finished())["usage"]["attempts"] == 1
        await mesh.queues_are_empty()


async def test_a_message_whose_id_runs_elsewhere_waits_for_that_outcome(mesh: Mesh) -> None:
    """Where the broker has forgotten the first one: it is not computed twice, and its consumer is told the end."""
    first = await mesh.start_router("r-1", **{"router.max_held": 1})
    second = await mesh.start_router("r-2")
    consumer = await events(mesh, "two")
    old_id = derived_request_id("any", time.time_ns(), int(time.time() * 1000) - 24 * 3_600_000)
    body = {"prompt": "hello", "id": old_id}
    async with living(first.address, mesh, "w-1") as hands:
        await mesh.publish_json(QUEUE, body)
        batch = await hands.batch()
        claims = await mesh.nats.subscribe("hr.v1.claim.>")
        async with living(second.address, mesh, "w-2"):
            await mesh.publish_json(QUEUE, {**body, "reply_to": "two"})
            for _ in range(2):
                await claims.next_msg(5)
            await hands.make(batch.entries[0], "abc")
            await hands.finish(batch)
            assert (await consumer.finished())["usage"]["attempts"] == 1
            await mesh.queues_are_empty()


async def test_an_id_that_has_the_outcome_of_another_request_is_refused(mesh: Mesh) -> None:
    """It is kept as a dead letter, its consumer is told, and the outcome stays what it was."""
    router = await mesh.start_router("r-1")
    letters = await mesh.nats.subscribe("hr.v1.dead.>")
    consumer = await events(mesh, "replies")
    request = a_request()
    async with living(router.address, mesh, "w-1") as hands:
        await mesh.publish_json(QUEUE, {"prompt": "one", "id": request.id})
        await hands.finish(await hands.batch())
        await mesh.result(request)
        await mesh.publish_json(QUEUE, {"prompt": "two", "id": request.id, "reply_to": "replies"})
        finished = await consumer.finished()
        assert (finished["kind"], finished["error"]["code"]) == ("OUTCOME_KIND_REJECTED", "DUPLICATE_REQUEST")
        assert b"DUPLICATE_REQUEST" in (await letters.next_msg(5)).data
        await mesh.queues_are_empty()
    assert (await mesh.result(request)).kind is OutcomeKind.COMPLETED
