"""A request that is sent again under its id is done once; the id is no other request's."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest
from nats.aio.client import Client

from headrace.client.client import HeadraceClient
from headrace.client.request import Ask
from headrace.contract.deliver import HeldStream
from headrace.contract.errors import DuplicateRequest
from headrace.contract.ids import new_request_id
from headrace.contract.values import Accepted, Outcome, OutcomeKind, TokenChunk
from headrace.runtime.settings import Settings
from tests.gateway.acting_router import LIMIT_S, ActingRouter
from tests.gateway.conftest import running_gateway

pytestmark = pytest.mark.integration


async def within(completing: asyncio.Task[Outcome]) -> Outcome:
    async with asyncio.timeout(LIMIT_S):
        return await completing


async def nothing_more(router: ActingRouter) -> None:
    """The queues hold no further request."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await router.take()


async def test_what_waits_is_not_queued_twice(client: HeadraceClient, router: ActingRouter) -> None:
    """The second call is told that it is accepted, and gets the answer to the first."""
    request_id = new_request_id()
    await client.submit(model="tiny", prompt="p", request_id=request_id)
    again = await client.submit(model="tiny", prompt="p", request_id=request_id)
    assert again.request_id == request_id
    completing = asyncio.create_task(client.complete(model="tiny", prompt="p", request_id=request_id))
    (held,) = await router.held()
    assert held == HeldStream(request_id=request_id)
    await router.answer("once")
    assert (await within(completing)).text == "once"
    await nothing_more(router)


async def test_what_runs_is_followed_from_its_first_token(
    client: HeadraceClient, router: ActingRouter, settings: Settings
) -> None:
    """At the same gateway and at another: each call gets the whole, and nothing is computed twice."""
    request_id = new_request_id()
    first = asyncio.create_task(client.complete(model="tiny", prompt="p", request_id=request_id))
    taken = await router.take()
    router.tokens(taken.id, 0, "The ")
    async with running_gateway(settings) as other, HeadraceClient(other.address) as elsewhere:
        await router.held()  # its join
        here = asyncio.create_task(client.complete(model="tiny", prompt="p", request_id=request_id))
        there = asyncio.create_task(elsewhere.complete(model="tiny", prompt="p", request_id=request_id))
        (held,) = await router.held()
        assert held == HeldStream(request_id=request_id)
        router.tokens(taken.id, 0, "The ")
        router.tokens(taken.id, 4, "end")
        await router.finish(taken, "The end")
        outcomes = [await within(task) for task in (first, here, there)]
    assert [outcome.text for outcome in outcomes] == ["The end"] * 3
    await nothing_more(router)


async def test_what_has_ended_is_answered_from_its_outcome(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """With all its text and tokens, and without a router."""
    request_id = new_request_id()
    first = asyncio.create_task(client.complete(model="tiny", prompt="p", request_id=request_id))
    await router.answer("The end")
    again = await client.complete(model="tiny", prompt="p", request_id=request_id)
    assert again == await within(first)
    assert (await client.submit(model="tiny", prompt="p", request_id=request_id)).request_id == request_id
    await nothing_more(router)


async def refused(client: HeadraceClient, request_id: str) -> None:
    """Whatever else is asked for under that id: the error names it."""
    for calling in (
        client.complete(model="tiny", prompt="other", request_id=request_id),
        client.submit(model="tiny", prompt="p", max_tokens=7, request_id=request_id),
        client.submit(model="tiny", prompt="p", tenant="blue", request_id=request_id),
    ):
        with pytest.raises(DuplicateRequest) as caught:
            async with asyncio.timeout(LIMIT_S):
                await calling
        assert (caught.value.request_id, caught.value.field) == (request_id, "request_id")


async def test_another_request_may_not_have_the_id_of_one_that_waits(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """Nor is the one that has it disturbed."""
    request_id = (await client.submit(model="tiny", prompt="p")).request_id
    await refused(client, request_id)
    await router.answer("one")
    assert (await client.result(request_id, wait_s=LIMIT_S)).text == "one"


async def test_another_request_may_not_have_the_id_of_one_that_runs(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """The client that waits for it gets its answer, and no word of the others."""
    request_id = new_request_id()
    first = asyncio.create_task(client.complete(model="tiny", prompt="p", request_id=request_id))
    taken = await router.take()
    await refused(client, request_id)
    router.tokens(taken.id, 0, "one")
    await router.finish(taken, "one")
    assert (await within(first)).text == "one"


async def test_another_request_may_not_have_the_id_of_one_that_ended(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """For as long as the outcome is kept."""
    request_id = (await client.submit(model="tiny", prompt="p")).request_id
    await router.answer("one")
    await client.result(request_id, wait_s=LIMIT_S)
    await refused(client, request_id)


async def test_the_outcome_of_a_request_that_was_cancelled_before_a_router_had_it_is_its_answer(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """Who cancels an id need not know what it stands for; who asks under it learns that it is cancelled."""
    request_id = new_request_id()
    await client.cancel(request_id)  # was never in the broker's window
    outcome = await client.complete(model="tiny", prompt="p", request_id=request_id)
    assert outcome.kind is OutcomeKind.CANCELLED
    await nothing_more(router)


async def test_a_request_that_a_producer_queued_is_recognised(
    client: HeadraceClient, router: ActingRouter, nc: Client
) -> None:
    """What was published as JSON on NATS and is asked for over gRPC is one request where it is the same."""
    request_id = new_request_id()
    body = json.dumps({"id": request_id, "prompt": "p", "max_tokens": 5}).encode()
    await nc.jetstream().publish("hr.v1.req.tiny.high.blue", body, headers={"Nats-Msg-Id": request_id})
    ask: Ask = {"tenant": "blue", "request_id": request_id, "max_tokens": 5, "prompt": "p"}
    high: Ask = {**ask, "priority": "high"}
    with pytest.raises(DuplicateRequest):
        await client.submit(model="tiny", **ask)
    completing = asyncio.create_task(client.complete(model="tiny", **high))
    assert [held.tenant for held in await router.held()] == ["blue"]
    await router.answer("five!")
    assert (await within(completing)).text == "five!"


async def test_a_repeated_call_that_leaves_does_not_end_what_was_submitted(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """A submitted request is answered whether or not anybody waits."""
    request_id = (await client.submit(model="tiny", prompt="p")).request_id
    async with aclosing(client.generate(model="tiny", prompt="p", request_id=request_id)) as events:
        assert isinstance(await anext(events), Accepted)
        await router.held()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(router.cancels.get(), 0.5)
    await router.answer("on")
    assert (await client.result(request_id, wait_s=LIMIT_S)).text == "on"


async def test_of_two_calls_for_one_request_the_last_to_leave_ends_it(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """While one waits, the request goes on."""
    request_id = new_request_id()
    async with aclosing(client.generate(model="tiny", prompt="p", request_id=request_id)) as first:
        await anext(first)
        taken = await router.take()
        async with aclosing(client.generate(model="tiny", prompt="p", request_id=request_id)) as second:
            await anext(second)
        router.tokens(taken.id, 0, "on")
        event = await anext(first)
        assert isinstance(event, TokenChunk)
        assert event.text == "on"
        assert router.cancels.empty()
    async with asyncio.timeout(LIMIT_S):
        assert await router.cancels.get() == (request_id, "cancelled")
