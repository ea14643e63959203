"""Routers come and go; the clients' streams go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress

import grpc.aio
import pytest
from nats.aio.client import Client

from headrace.client.client import HeadraceClient
from headrace.contract.deliver import Delivery, DeliveryMessage, HeldStream
from headrace.contract.errors import Unavailable
from headrace.contract.subjects import MEMBERS_BUCKET
from headrace.contract.values import Outcome, Priority, QueuePosition, TokenChunk
from headrace.gateway.audience import pieces
from headrace.gateway.catalogue import Catalogue
from headrace.gateway.routers import member_of
from headrace.gateway.streams import Streams
from headrace.runtime.settings import Settings
from tests.gateway.acting_router import LIMIT_S, ActingRouter, chunk, completed, load
from tests.gateway.conftest import NOT_SERVING, SERVING, becomes, running_gateway

pytestmark = pytest.mark.integration


async def joined(router: ActingRouter) -> tuple[HeldStream, ...]:
    """What the gateway holds, as it says on its next join."""
    async with asyncio.timeout(LIMIT_S):
        return (await router.joins.get()).held


async def read_text(events: AsyncIterator[object], length: int) -> str:
    """Reads events until that much text has come."""
    text = ""
    async for event in events:
        if isinstance(event, TokenChunk):
            text += event.text
            if len(text) >= length:
                return text
    raise AssertionError("the stream ended early")


async def test_a_router_that_takes_over_learns_what_the_clients_have(
    nc: Client, router: ActingRouter, client: HeadraceClient
) -> None:
    """The second router, joined long before, is told of the tokens, and goes on after them without gap or repeat."""
    async with ActingRouter(nc, "r-2") as second:
        assert await joined(second) == ()
        async with aclosing(client.generate(model="tiny", prompt="p")) as events:
            await anext(events)
            taken = await router.take()
            router.tokens(taken.id, 0, "The quick")
            assert await read_text(events, 9) == "The quick"
            await router.die()
            (held,) = await joined(second)
            assert held == HeldStream(
                request_id=taken.id,
                token_ids=tuple(map(ord, "The quick")),
                text="The quick",
                text_lengths=(1,) * 9,
            )
            second.tokens(taken.id, 9, " brown")
            second.holds[taken.id] = taken
            await second.finish(taken, "The quick brown")
            rest = [event async for event in events]
    assert "".join(event.text for event in rest if isinstance(event, TokenChunk)) == " brown"
    assert isinstance(rest[-1], Outcome)


async def test_a_router_that_comes_later_is_told_when_it_is_joined(
    nc: Client, router: ActingRouter, client: HeadraceClient
) -> None:
    """A stream waits for a router that is not there yet; one that sends all again makes no repeat."""
    async with aclosing(client.generate(model="tiny", prompt="p")) as events:
        await anext(events)
        taken = await router.take()
        router.tokens(taken.id, 0, "The ")
        assert await read_text(events, 4) == "The "
        await router.die()
        async with ActingRouter(nc, "r-2") as second:
            (held,) = await joined(second)
            assert held.token_ids == tuple(map(ord, "The "))
            second.say(*(Delivery(request_id=taken.id, tokens=chunk(i, c)) for i, c in enumerate("The end")))
            await second.finish(taken, "The end")
            assert await read_text(events, 3) == "end"
            assert isinstance(await anext(events), Outcome)


async def test_an_outcome_that_was_lost_with_its_router_ends_the_stream(
    router: ActingRouter, client: HeadraceClient
) -> None:
    """It was stored and acknowledged, so no router will ever speak of it again; the client has it all the same."""
    generating = asyncio.create_task(client.complete(model="tiny", prompt="p"))
    taken = await router.take()
    router.tokens(taken.id, 0, "Par")
    await router.store(taken, completed(taken.id, "Paris"))
    await router.die()
    async with asyncio.timeout(LIMIT_S):
        assert (await generating).text == "Paris"


async def test_the_same_router_is_joined_again_after_its_restart(
    nc: Client, router: ActingRouter, client: HeadraceClient
) -> None:
    """Under its old name and port, in another process."""
    port = router.port
    await router.die()
    async with ActingRouter(nc, router.id, port=port) as again:
        await joined(again)
        answering = asyncio.create_task(again.answer("back"))
        assert (await client.complete(model="tiny", prompt="p")).text == "back"
        await answering


async def test_a_router_at_the_address_of_a_killed_one_is_one_router(
    nc: Client, router: ActingRouter, client: HeadraceClient
) -> None:
    """It has a name of its own, and the killed one is a member for some seconds still: its lanes count once."""
    port = router.port
    await router.die()
    async with ActingRouter(nc, "r-2", port=port) as successor:
        await joined(successor)
        with suppress(TimeoutError):  # as long as the old link would take to dial again
            async with asyncio.timeout(1.5):
                await joined(successor)
        assert [model.lanes for model in await client.models()] == [1]
        answering = asyncio.create_task(successor.answer("one"))
        assert (await client.complete(model="tiny", prompt="p")).text == "one"
        await answering


def waiting(settings: Settings, router_wait_s: float) -> Settings:
    """Settings of a gateway that waits so long for a first router."""
    own = settings.gateway.model_copy(update={"router_wait_s": router_wait_s})
    return settings.model_copy(update={"gateway": own})


async def test_a_call_is_refused_where_no_router_comes(nc: Client, settings: Settings) -> None:
    """After a short wait the caller knows what is missing."""
    async with running_gateway(waiting(settings, 0.2)) as gateway, HeadraceClient(gateway.address) as client:
        for calling in (
            client.complete(model="tiny", prompt="p"),
            client.submit(model="tiny", prompt="p"),
            client.models(),
        ):
            with pytest.raises(Unavailable, match=r"router: none was connected within 0\.2 s"):
                await calling


async def test_a_call_waits_for_a_first_router(nc: Client, settings: Settings) -> None:
    """What comes during a router's restart is answered by the new one."""
    async with (
        running_gateway(waiting(settings, LIMIT_S)) as gateway,
        HeadraceClient(gateway.address) as client,
    ):
        generating = asyncio.create_task(client.complete(model="tiny", prompt="p"))
        async with ActingRouter(nc) as router:
            await router.answer("late")
            assert (await generating).text == "late"


async def test_a_router_that_drains_finishes_what_it_runs_and_is_offered_no_more(
    router: ActingRouter, client: HeadraceClient, channel: grpc.aio.Channel
) -> None:
    """Its models go off the list, and so does the gateway's readiness where it was the last."""
    async with aclosing(client.generate(model="tiny", prompt="p")) as events:
        await anext(events)
        taken = await router.take()
        await becomes(channel, SERVING)
        router.tell(DeliveryMessage(draining=True))
        await becomes(channel, NOT_SERVING)
        router.tokens(taken.id, 0, "a")
        assert await read_text(events, 1) == "a"
        await router.finish(taken, "a")
        assert isinstance(await anext(events), Outcome)


UNREADABLE = (
    b"",
    b"{",
    b"[]",
    b"[" * 100_000,
    b'{"address": 5}',
    b'{"address": "127.0.0.1:1", "started": "x"}',
    b'{"address": "127.0.0.1:1", "started": 1' + b"0" * 400 + b"}",
    b'{"address": "unix:/run/x"}',
    b'{"address": "a,b:1"}',
)


async def test_a_report_that_cannot_be_read_harms_nobody(
    nc: Client, router: ActingRouter, client: HeadraceClient
) -> None:
    """Whatever stands in the bucket."""
    bucket = await nc.jetstream().key_value(MEMBERS_BUCKET)
    for body in UNREADABLE:
        await bucket.put("router.bad", body)
    answering = asyncio.create_task(router.answer("x"))
    assert (await client.complete(model="tiny", prompt="p")).text == "x"
    await answering


def test_a_report_is_read() -> None:
    """What routers write."""
    member = member_of("r-1", b'{"address": "10.0.0.1:7701", "id": "r-1", "started": 5.5, "more": 1}')
    assert member is not None
    assert (member.id, member.address, member.started) == ("r-1", "10.0.0.1:7701", 5.5)
    assert member_of("no.name", b'{"address": "a:1"}') is None
    assert [member_of("r-1", body) for body in UNREADABLE] == [None] * len(UNREADABLE)


def test_the_catalogue_is_the_union_of_the_routers() -> None:
    """Lanes add up, names are sorted, and a model goes with the last router that has it."""
    catalogue = Catalogue()
    catalogue.update("r-1", [load("b"), load("a")])
    catalogue.update("r-2", [load("b")])
    assert [(model.name, model.lanes) for model in catalogue.models()] == [("a", 1), ("b", 2)]
    catalogue.forget("r-1")
    assert catalogue.names() == ["b"]
    catalogue.forget("r-2")
    assert not catalogue.connected


def test_the_place_is_that_at_the_router_which_is_soonest() -> None:
    """An unknown wait counts as the longest."""
    catalogue = Catalogue()
    catalogue.update("r-1", [load(waiting=(0, 0, 1, 0), free_lanes=0, seconds_per_request=0.0)])
    unknown = catalogue.position("tiny", Priority.NORMAL)
    assert unknown == QueuePosition(ahead=1, estimated_wait_s=None)
    catalogue.update("r-2", [load(waiting=(0, 0, 3, 0), free_lanes=0, seconds_per_request=0.5)])
    assert catalogue.position("tiny", Priority.NORMAL) == QueuePosition(ahead=3, estimated_wait_s=2.0)
    assert catalogue.retry_after_s("tiny") == 1.0


def test_what_a_router_is_told_comes_in_pieces_that_fit() -> None:
    """Every stream in one of them, none in two; the first piece is there though nobody waits."""
    assert list(pieces([], 10)) == [()]
    streams = Streams(10)
    with streams.open("default", "a"), streams.open("default", "b"), streams.open("default", "c"):
        for name in ("a", "b", "c"):
            streams.deliver("r-1", Delivery(request_id=name, tokens=chunk(0, "123456")))
        told = list(pieces(streams.waiting(), 12))
    assert [[held.request_id for held in piece] for piece in told] == [["a", "b"], ["c"]]
