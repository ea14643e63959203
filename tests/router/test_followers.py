"""Clients of several gateways follow one request: what the router tells them, and when it is ended for lack of them.

And ids that come again when the broker has forgotten them.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from nats.errors import TimeoutError as NatsTimeout

from headrace.contract.deliver import Delivery, HeldStream
from headrace.contract.ids import derived_request_id
from headrace.contract.queue_wire import encode_request
from headrace.contract.requests import Request
from headrace.contract.subjects import (
    CLAIM_WILDCARD,
    CONTENT_TYPE_PROTOBUF,
    FOLLOWED,
    HEADER_CANCEL_FOR,
    HEADER_CANCEL_KIND,
    HEADER_CONTENT_TYPE,
    Queue,
    cancel_subject,
    parse_claim,
)
from headrace.contract.values import OutcomeKind, QueuePosition
from tests.router.conftest import Mesh, a_request
from tests.router.peers import ScriptedGateway, gateway, worker

pytestmark = pytest.mark.integration


def attached(request: Request, first_index: int = 0) -> tuple[HeldStream, ...]:
    """What a gateway tells when a client attaches."""
    return (HeldStream(request_id=request.id, tenant=request.tenant, first_index=first_index),)


async def word_of(client: ScriptedGateway, request: Request) -> Delivery:
    """The next delivery of a request."""
    while True:
        for delivery in (await client.receive()).deliveries:
            if delivery.request_id == request.id:
                return delivery


async def give_up(mesh: Mesh, request: Request, gateway_id: str) -> str:
    """Says that the last client of a gateway has left, and gives the answer; "" where there is none."""
    headers = {HEADER_CANCEL_KIND: OutcomeKind.CANCELLED.value, HEADER_CANCEL_FOR: gateway_id}
    subject = cancel_subject(request.tenant, request.id)
    try:
        return (await mesh.nats.request(subject, b"", timeout=1.0, headers=headers)).data.decode()
    except NatsTimeout:
        return ""


async def test_a_gateway_that_tells_of_a_request_which_waits_is_told_its_place(mesh: Mesh) -> None:
    """So it knows that there is such a request, long before the first token that its client wants."""
    router = await mesh.start_router("r-1")
    async with worker(router.address, mesh.model, max_batch=1) as hands:
        blocker, request = a_request(prompt="blocker"), a_request()
        await mesh.publish(blocker)
        await hands.batch()
        async with gateway(router.address) as watching:
            await mesh.publish(request)
            while True:  # until the router holds it
                message = await watching.receive()
                if message.catalogue and sum(message.catalogue[0].waiting) == 1:
                    break
        for index in (0, 7):
            async with gateway(router.address, held=attached(request, index)) as client:
                word = await word_of(client, request)
                assert word.queued is not None
                assert word.queued.ahead == 0


async def test_a_gateway_that_told_before_is_told_when_the_request_comes(mesh: Mesh) -> None:
    """A client may attach before any router has taken the request up; another tenant's is told nothing."""
    router = await mesh.start_router("r-1")
    request = a_request()
    other = (HeldStream(request_id=request.id, tenant="other"),)
    async with (
        gateway(router.address, "gw-1", held=attached(request)) as client,
        gateway(router.address, "gw-2", held=other) as stranger,
        worker(router.address, mesh.model) as hands,
    ):
        await mesh.publish(request)
        word = await word_of(client, request)
        assert word.queued == QueuePosition(ahead=0, estimated_wait_s=0.0)
        batch = await hands.batch()
        await hands.make(batch.entries[0], "ab")
        await hands.finish(batch)
        await client.outcome(request.id)
        assert client.text[request.id] == "ab"
        assert (stranger.tokens[request.id], stranger.outcomes) == ([], {})


async def test_a_request_that_other_gateways_follow_is_not_ended_for_one_that_left(mesh: Mesh) -> None:
    """When the last gateway's client has left, it is."""
    router = await mesh.start_router("r-1")
    request = a_request(gateway="gw-1")
    async with (
        gateway(router.address, "gw-1") as first,
        gateway(router.address, "gw-2", held=attached(request)) as second,
        worker(router.address, mesh.model) as hands,
    ):
        await mesh.publish(request)
        (entry,) = (await hands.batch()).entries
        await hands.make(entry, "ab")
        await first.until_text(request.id, "ab")
        assert await give_up(mesh, request, "gw-1") == FOLLOWED
        await hands.make(entry, "cd", at=2)
        await second.until_text(request.id, "abcd")
        assert first.text[request.id] == "ab", "nobody reads there any more"
        assert await give_up(mesh, request, "gw-2") == "cancelled"
        assert await hands.cancelled() == entry.assignment
    outcome = await mesh.result(request)
    assert (outcome.kind, outcome.text, outcome.usage.output_tokens) == (OutcomeKind.CANCELLED, "abcd", 4)


async def test_a_request_that_no_router_holds_is_remembered_by_none(mesh: Mesh) -> None:
    """A gateway whose client left asks who has it: it may be another router, and be followed there. Where somebody
    attached to it, that is said.
    """
    router = await mesh.start_router("r-1")
    alone, followed = a_request(), a_request()
    async with gateway(router.address, "gw-2", held=attached(followed)) as client:
        assert await give_up(mesh, alone, "gw-1") == ""
        assert await give_up(mesh, followed, "gw-1") == FOLLOWED
        assert await give_up(mesh, followed, "gw-2") == ""
        async with worker(router.address, mesh.model) as hands:
            for request in (alone, followed):
                await mesh.publish(request)
                batch = await hands.batch()
                await hands.finish(batch)
                async with asyncio.timeout(10):
                    assert (await mesh.result(request)).kind is OutcomeKind.COMPLETED
        await client.outcome(followed.id)


def old_id() -> str:
    """Made an hour ago."""
    return derived_request_id("test", time.monotonic_ns(), round((time.time() - 3600) * 1000))


async def publish_again(mesh: Mesh, request: Request) -> None:
    """Puts a request into its queue as if the broker had forgotten its id."""
    queue = Queue(model=request.model, priority=request.priority, tenant=request.tenant)
    headers = {HEADER_CONTENT_TYPE: CONTENT_TYPE_PROTOBUF}
    await mesh.nats.jetstream().publish(queue.subject, encode_request(request), headers=headers)


async def test_a_request_that_has_an_outcome_is_not_computed_again_however_late_it_comes(mesh: Mesh) -> None:
    """A gateway has looked, but the outcome may have come since; another request under the id is refused."""
    router = await mesh.start_router("r-1")
    request = a_request(id=old_id(), gateway="gw-1")
    async with gateway(router.address) as client, worker(router.address, mesh.model) as hands:
        await mesh.publish(request)
        batch = await hands.batch()
        await hands.make(batch.entries[0], "ab")
        await hands.finish(batch)
        await client.outcome(request.id)
        async with gateway(router.address, "gw-2") as other:
            await publish_again(mesh, replace(request, gateway="gw-2"))
            outcome = await other.outcome(request.id)
            assert (outcome.kind, outcome.usage.attempts) == (OutcomeKind.COMPLETED, 1)
        later = a_request()
        await mesh.publish(later)
        assert (await hands.batch()).entries[0].request_id == later.id


async def test_a_request_that_another_router_runs_is_not_computed_beside_it(mesh: Mesh) -> None:
    """Its second message waits for the outcome of the first."""
    first = await mesh.start_router("r-1")
    second = await mesh.start_router("r-2")
    request = a_request(id=old_id(), gateway="gw-1")
    async with (
        gateway(first.address) as client,
        gateway(second.address, "gw-2") as other,
        worker(first.address, mesh.model, heartbeat_s=0.3) as hands,
    ):
        await mesh.publish(request)
        batch = await hands.batch()
        claims = await mesh.nats.subscribe(CLAIM_WILDCARD)
        first.shutdown.request("so that it takes no more, and ends what it has")
        await asyncio.sleep(0.1)  # a drain begins without a word
        async with worker(second.address, mesh.model, worker_id="w-2", heartbeat_s=0.3) as idle:
            await publish_again(mesh, replace(request, gateway="gw-2"))
            assert parse_claim((await claims.next_msg(timeout=10)).subject) == (request.tenant, request.id)
            await hands.make(batch.entries[0], "ab")
            await hands.finish(batch)
            assert (await client.outcome(request.id)).usage.attempts == 1
            assert (await other.outcome(request.id)).usage.attempts == 1
            later = a_request()
            await mesh.publish(later)
            assert (await idle.batch()).entries[0].request_id == later.id, "it was given nothing before"
