"""Whose tokens count: the gateway gives its clients those of the router that has the request, and no other's."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from nats.aio.client import Client

from headrace.client.client import HeadraceClient
from headrace.contract.deliver import Delivery, DeliveryMessage, HeldStream, Recall
from headrace.contract.ids import new_request_id
from headrace.contract.values import Accepted, Outcome, TokenChunk
from tests.gateway.acting_router import LIMIT_S, ActingRouter, chunk, completed

pytestmark = pytest.mark.integration


async def test_a_recall_is_answered_with_what_the_client_has(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """Nothing yet, then the tokens with their text and where it can be cut; and that nobody waits, when nobody does."""
    async with aclosing(client.generate(model="tiny", prompt="p")) as events:
        await anext(events)
        taken = await router.take()
        assert await router.asked(taken.id) == HeldStream(request_id=taken.id)
        router.tokens(taken.id, 0, "ab")
        await anext(events)
        held = await router.asked(taken.id)
        assert held is not None
        assert held.output == chunk(0, "ab")
        await router.finish(taken, "ab")
        assert isinstance(await anext(events), Outcome)
    async with asyncio.timeout(LIMIT_S):
        assert await router.left.get() == taken.id
    assert await router.asked(taken.id) is None
    assert await router.asked(new_request_id()) is None


async def test_after_a_recall_the_tokens_of_the_router_before_are_dropped(
    nc: Client, router: ActingRouter, client: HeadraceClient
) -> None:
    """It stood still, and does not know yet that it has lost the request: what it makes is not to be mixed in."""
    async with ActingRouter(nc, "r-2") as second:
        await second.held()
        async with aclosing(client.generate(model="tiny", prompt="p")) as events:
            await anext(events)
            taken = await router.take()
            router.tokens(taken.id, 0, "The ")
            assert await anext(events) == chunk(0, "The ")
            held = await second.asked(taken.id)
            assert held is not None
            assert held.output == chunk(0, "The ")
            router.tokens(taken.id, 4, "stale")
            await router.asked(new_request_id())  # so that it has been read
            second.tokens(taken.id, 4, "end")
            assert await anext(events) == chunk(4, "end")
            second.holds[taken.id] = taken
            await second.finish(taken, "The end")
            assert isinstance(await anext(events), Outcome)


async def test_the_first_router_that_delivers_is_the_owner(
    nc: Client, router: ActingRouter, client: HeadraceClient
) -> None:
    """Without a recall, too."""
    async with ActingRouter(nc, "r-2") as second:
        await second.held()
        async with aclosing(client.generate(model="tiny", prompt="p")) as events:
            await anext(events)
            taken = await router.take()
            router.tokens(taken.id, 0, "a")
            assert await anext(events) == chunk(0, "a")
            second.tokens(taken.id, 1, "?")
            await second.asked(new_request_id())
            router.tokens(taken.id, 1, "b")
            assert await anext(events) == chunk(1, "b")


async def test_an_end_counts_from_any_router(
    nc: Client, router: ActingRouter, client: HeadraceClient
) -> None:
    """It is durable before it is told; what is missing comes from the durable outcome."""
    async with ActingRouter(nc, "r-2") as second:
        await second.held()
        async with aclosing(client.generate(model="tiny", prompt="p")) as events:
            await anext(events)
            taken = await router.take()
            router.tokens(taken.id, 0, "The ")
            assert await anext(events) == chunk(0, "The ")
            await second.store(taken, completed(taken.id, "The end"))
            second.say(Delivery(request_id=taken.id, finished=completed(taken.id, "The end")))
            rest = [event async for event in events]
    assert rest[0] == chunk(4, "end")
    assert isinstance(rest[-1], Outcome)


async def test_a_recall_of_another_tenant_changes_nothing(
    router: ActingRouter, client: HeadraceClient
) -> None:
    """The answer is that nobody waits."""
    async with aclosing(client.generate(model="tiny", prompt="p")) as events:
        await anext(events)
        taken = await router.take()
        router.tell(DeliveryMessage(recall=(Recall(request_id=taken.id, tenant="blue"),)))
        async with asyncio.timeout(LIMIT_S):
            assert await router.left.get() == taken.id


async def test_a_recall_tells_a_client_that_attached_that_its_request_is_known(
    router: ActingRouter, client: HeadraceClient
) -> None:
    """A router that takes a request up asks for it: that is word enough."""
    request_id = (await client.submit(model="tiny", prompt="p")).request_id
    attaching = client.attach(request_id, from_index=3)
    async with aclosing(attaching) as events:
        accepted = asyncio.create_task(anext(events))
        await router.held()
        assert await router.asked(request_id) == HeldStream(request_id=request_id, first_index=3)
        assert isinstance(await accepted, Accepted)
        router.tokens(request_id, 0, "abcd")
        event = await anext(events)
        assert isinstance(event, TokenChunk)
        assert event == chunk(3, "d")
