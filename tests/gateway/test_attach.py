"""Attach: the tokens of a request from any index on, whenever and wherever it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest

from headrace.client.client import HeadraceClient
from headrace.client.unbroken import Event
from headrace.contract.client_wire import decode_generate_response
from headrace.contract.deliver import Delivery, HeldStream
from headrace.contract.ids import new_request_id
from headrace.contract.inference_wire import Attachment, encode_attach, encode_generate
from headrace.contract.requests import Request
from headrace.contract.values import (
    Accepted,
    Outcome,
    OutcomeKind,
    Priority,
    QueuePosition,
    TokenChunk,
    Usage,
)
from headrace.gateway import streams
from headrace.runtime.grpc_status import problem_of
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.settings import Settings
from headrace.v1.inference_pb2_grpc import InferenceServiceStub
from tests.gateway.acting_router import LIMIT_S, ActingRouter, chunk, completed
from tests.gateway.conftest import RunningGateway, running_gateway

if TYPE_CHECKING:
    from headrace.v1.inference_pb2_grpc import InferenceServiceAsyncStub

pytestmark = pytest.mark.integration


async def attach(
    stub: InferenceServiceAsyncStub,
    request_id: str,
    from_index: int = 0,
    *,
    tenant: str = "default",
    wait_s: float | None = None,
) -> AsyncGenerator[Event, None]:
    """The events of one Attach call."""
    wanted = Attachment(tenant=tenant, request_id=request_id, from_index=from_index, wait_s=wait_s)
    call = stub.Attach(encode_attach(wanted), timeout=LIMIT_S)
    try:
        async for response in call:
            if (event := decode_generate_response(response)) is not None:
                yield event
    finally:
        call.cancel()


async def whole(
    stub: InferenceServiceAsyncStub, request_id: str, from_index: int = 0
) -> tuple[TokenChunk | None, Outcome]:
    """All that one Attach call gives: its tokens as one chunk, and its end."""
    joined: TokenChunk | None = None
    first, *rest = [event async for event in attach(stub, request_id, from_index)]
    assert isinstance(first, Accepted)
    for event in rest[:-1]:
        assert isinstance(event, TokenChunk)
        joined = event if joined is None else joined.joined(event)
    assert isinstance(rest[-1], Outcome)
    return joined, rest[-1]


@pytest.mark.parametrize("from_index", [0, 1, 7, 15])
async def test_after_the_run_the_outcome_is_the_answer(
    stub: InferenceServiceAsyncStub, client: HeadraceClient, router: ActingRouter, from_index: int
) -> None:
    """From any index, the last one included, exactly the rest; its end has finish reason and usage, and no text."""
    request_id = (await client.submit(model="tiny", prompt="p")).request_id
    await router.answer("The quick brown")
    await client.result(request_id, wait_s=LIMIT_S)
    tokens, outcome = await whole(stub, request_id, from_index)
    assert tokens == chunk(0, "The quick brown").since(from_index)
    assert (outcome.kind, outcome.usage.output_tokens, outcome.text) == (OutcomeKind.COMPLETED, 15, "")


async def test_an_index_beyond_a_completed_request_is_refused(
    stub: InferenceServiceAsyncStub, client: HeadraceClient, router: ActingRouter
) -> None:
    """The error names the field, and how many tokens there are."""
    request_id = (await client.submit(model="tiny", prompt="p")).request_id
    await router.answer("abc")
    await client.result(request_id, wait_s=LIMIT_S)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await whole(stub, request_id, 4)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    problem = problem_of(caught.value)
    assert (problem.field, "3 tokens" in problem.message) == ("from_index", True)


async def test_during_the_run_a_router_is_told_what_is_missing(
    stub: InferenceServiceAsyncStub, client: HeadraceClient, router: ActingRouter
) -> None:
    """Nothing that the client has, and everything after it."""
    request_id = (await client.submit(model="tiny", prompt="p")).request_id
    taken = await router.take()
    attaching = asyncio.create_task(whole(stub, request_id, 4))
    assert await router.held() == (HeldStream(request_id=request_id, first_index=4),)
    router.tokens(request_id, 2, "e quick")
    router.tokens(request_id, 9, " brown")
    await router.finish(taken, "The quick brown")
    tokens, outcome = await attaching
    assert tokens == chunk(4, "quick brown")
    assert outcome.kind is OutcomeKind.COMPLETED


async def test_before_the_run_it_waits_for_a_router_to_take_it_up(
    stub: InferenceServiceAsyncStub, client: HeadraceClient, router: ActingRouter
) -> None:
    """Accepted comes with the first word of a router, be it a place in a queue."""
    request_id = (await client.submit(model="tiny", prompt="p")).request_id
    async with aclosing(attach(stub, request_id)) as events:
        accepted = asyncio.create_task(anext(events))
        await router.held()
        assert not accepted.done()
        taken = await router.take()
        place = QueuePosition(ahead=2, estimated_wait_s=1.5)
        router.say(Delivery(request_id=request_id, queued=place))
        assert await accepted == Accepted(request_id=request_id, position=place)
        router.tokens(request_id, 0, "now")
        await router.finish(taken, "now")
        *tokens, outcome = [event async for event in events]
        assert tokens == [chunk(0, "now")]
        assert isinstance(outcome, Outcome)


async def test_an_end_that_no_router_tells_of_is_found(
    stub: InferenceServiceAsyncStub, client: HeadraceClient, router: ActingRouter
) -> None:
    """The router may have stored the outcome before it heard that somebody attached."""
    request_id = (await client.submit(model="tiny", prompt="p")).request_id
    taken = await router.take()
    attaching = asyncio.create_task(whole(stub, request_id, 2))
    await router.held()
    await router.store(taken, completed(request_id, "Paris"))
    assert (await attaching)[0] == chunk(2, "ris")


async def test_nobody_knows_it_is_not_found_after_the_wait(
    stub: InferenceServiceAsyncStub, client: HeadraceClient, router: ActingRouter
) -> None:
    """Also without a wait; a tenant's request is nobody else's."""
    submitted = await client.submit(model="tiny", prompt="p", tenant="blue")
    await router.answer("secret")
    await client.result(submitted.request_id, tenant="blue", wait_s=LIMIT_S)
    for request_id in (new_request_id(), submitted.request_id):
        for wait_s in (0.0, 1.0):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in attach(stub, request_id, wait_s=wait_s):
                    pass
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            assert request_id in problem_of(caught.value).message


async def test_a_tenant_gets_no_token_of_anothers_request(
    stub: InferenceServiceAsyncStub, client: HeadraceClient, router: ActingRouter
) -> None:
    """While a client of that request waits here, too."""
    generating = asyncio.create_task(client.complete(model="tiny", prompt="p", tenant="blue"))
    taken = await router.take()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in attach(stub, taken.id, tenant="red"):
            pass
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    router.tokens(taken.id, 0, "secret")
    await router.finish(taken, "secret")
    assert (await generating).text == "secret"


async def test_while_the_broker_is_away_nothing_is_said_not_to_be_there(
    stub: InferenceServiceAsyncStub, client: HeadraceClient, router: ActingRouter, fresh_nats: EmbeddedNats
) -> None:
    """What a router runs is attached to all the same; of the rest nobody can tell."""
    running = (await client.submit(model="tiny", prompt="p")).request_id
    await router.take()
    fresh_nats.stop()
    async with aclosing(attach(stub, running)) as events:
        attached = asyncio.create_task(anext(events))
        await router.held()
        router.tokens(running, 0, "x")
        assert isinstance(await attached, Accepted)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in attach(stub, new_request_id(), wait_s=0.0):
            pass
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_many_clients_share_a_request(
    stub: InferenceServiceAsyncStub, client: HeadraceClient, router: ActingRouter
) -> None:
    """Each from its own index; what is here already is given without asking a router."""
    async with aclosing(client.generate(model="tiny", prompt="p", keep=True)) as events:
        await anext(events)
        taken = await router.take()
        router.tokens(taken.id, 0, "The quick")
        assert isinstance(await anext(events), TokenChunk)
        sooner = [asyncio.create_task(whole(stub, taken.id, index)) for index in (0, 4, 9, 12)]
        async with aclosing(attach(stub, taken.id, 4)) as looking:
            await anext(looking)
            assert await anext(looking) == chunk(4, "quick")
        assert router.joins.empty()
    router.tokens(taken.id, 9, " brown fox")
    await router.finish(taken, "The quick brown fox")
    for index, task in zip((0, 4, 9, 12), sooner, strict=True):
        assert (await task)[0] == chunk(0, "The quick brown fox").since(index)


async def test_who_wants_more_than_the_others_has_the_router_send_it(
    stub: InferenceServiceAsyncStub, client: HeadraceClient, router: ActingRouter
) -> None:
    """A second client from an earlier index: what comes again reaches the first one once."""
    request_id = (await client.submit(model="tiny", prompt="p")).request_id
    taken = await router.take()
    late = asyncio.create_task(whole(stub, request_id, 9))
    assert (await router.held())[0].first_index == 9
    router.tokens(request_id, 9, " bro")
    early = asyncio.create_task(whole(stub, request_id, 2))
    assert await router.held() == (HeldStream(request_id=request_id, first_index=2),)
    router.tokens(request_id, 2, "e quick bro")
    router.tokens(request_id, 13, "wn")
    await router.finish(taken, "The quick brown")
    assert (await late)[0] == chunk(9, " brown")
    assert (await early)[0] == chunk(2, "e quick brown")


async def test_a_client_that_leaves_ends_nothing(
    stub: InferenceServiceAsyncStub, client: HeadraceClient, router: ActingRouter
) -> None:
    """The routers hear that nobody here waits any more, and the request goes on."""
    request_id = (await client.submit(model="tiny", prompt="p")).request_id
    taken = await router.take()
    async with aclosing(attach(stub, request_id)) as events:
        attached = asyncio.create_task(anext(events))
        await router.held()
        router.tokens(request_id, 0, "x")
        await attached
    async with asyncio.timeout(LIMIT_S):
        assert await router.left.get() == request_id
    assert router.cancels.empty()
    await router.finish(taken, "xyz")
    assert (await client.result(request_id)).text == "xyz"


async def test_a_kept_request_outlives_its_call(
    stub: InferenceServiceAsyncStub, client: HeadraceClient, router: ActingRouter
) -> None:
    """Attach returns to it, where the client left. Meanwhile its tokens stay known here: a router that takes it over is
    to go on from what its client has.
    """
    async with aclosing(client.generate(model="tiny", prompt="p", keep=True)) as events:
        await anext(events)
        taken = await router.take()
        router.tokens(taken.id, 0, "The ")
        assert isinstance(await anext(events), TokenChunk)
    router.tokens(taken.id, 4, "en")
    await gone(router, taken.id, "The en")
    assert router.cancels.empty()
    async with aclosing(attach(stub, taken.id, 4)) as returned:
        assert isinstance(await anext(returned), Accepted)
        assert await anext(returned) == chunk(4, "en")
        router.tokens(taken.id, 6, "d")
        assert await anext(returned) == chunk(6, "d")
        await router.finish(taken, "The end")
        assert isinstance(await anext(returned), Outcome)
    async with asyncio.timeout(LIMIT_S):
        assert await router.left.get() == taken.id, "it is over, and nobody has it any more"


async def gone(router: ActingRouter, request_id: str, text: str) -> None:
    """Waits until the gateway has that much of a request whose client has left."""
    async with asyncio.timeout(LIMIT_S):
        while (held := await router.asked(request_id)) is None or held.text != text:
            pass  # the tokens, or the client's end, are on their way
    assert router.left.empty()


async def test_a_kept_request_outlives_its_calls_deadline(
    client: HeadraceClient, stub: InferenceServiceAsyncStub, router: ActingRouter
) -> None:
    """The request has one only where it says so itself, as the Python client does for it."""
    asked = Request(
        id=new_request_id(),
        tenant="default",
        model="tiny",
        priority=Priority.NORMAL,
        prompt="p",
        keep=True,
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stub.Generate(encode_generate(asked), timeout=0.5):
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    taken = await router.take()
    assert taken.request.deadline_s is None
    await gone(router, asked.id, "")
    assert router.cancels.empty()
    async with aclosing(client.generate(model="tiny", prompt="p", keep=True, timeout_s=60)) as events:
        await anext(events)
        assert (await router.take()).request.deadline_s is not None


async def test_of_too_many_kept_requests_the_first_left_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its routers are told; one that a client has come back to is his."""
    monkeypatch.setattr(streams, "MAX_KEPT", 2)
    departed: list[str] = []
    all_of_them = streams.Streams(10, lambda audience, over: departed.append(audience.request_id))

    def leave(request_id: str) -> None:
        with all_of_them.open("default", request_id) as stream:
            stream.audience.kept = True

    for request_id in ("a", "b"):
        leave(request_id)
    assert (departed, len(all_of_them)) == ([], 0)
    with all_of_them.open("default", "a"):
        leave("c")
        assert departed == [], "somebody waits for it"
        leave("d")
        assert departed == ["b"]
    assert departed == ["b", "c"], "and when he has left, it is one of many again"
    for request_id in ("d", "a"):
        all_of_them.deliver("r", Delivery(request_id=request_id, finished=completed(request_id, "")))
    assert departed == ["b", "c", "d", "a"]
    await all_of_them.wait_empty()


async def test_at_another_gateway_as_well(
    client: HeadraceClient, router: ActingRouter, settings: Settings
) -> None:
    """A request is the mesh's, not a gateway's."""
    generating = asyncio.create_task(client.complete(model="tiny", prompt="p"))
    taken = await router.take()
    async with (
        running_gateway(settings) as other,
        grpc.aio.insecure_channel(other.address) as channel,
    ):
        await router.held()
        attaching = asyncio.create_task(whole(InferenceServiceStub(channel), taken.id, 1))
        assert await router.held() == (HeldStream(request_id=taken.id, first_index=1),)
        router.tokens(taken.id, 0, "abc")
        await router.finish(taken, "abc")
        assert (await attaching)[0] == chunk(1, "bc")
    assert (await generating).text == "abc"


async def test_a_cancelled_request_gives_what_it_had_made(
    stub: InferenceServiceAsyncStub, client: HeadraceClient, router: ActingRouter
) -> None:
    """Its tokens are kept in the outcome; an index beyond them is no error, for the client may have had more."""
    request_id = (await client.submit(model="tiny", prompt="p")).request_id
    taken = await router.take()
    made = completed(request_id, "half")
    cancelled = Outcome(
        request_id=request_id,
        kind=OutcomeKind.CANCELLED,
        model="tiny",
        usage=Usage(output_tokens=4),
        text=made.text,
        token_ids=made.token_ids,
        text_lengths=made.text_lengths,
    )
    await router.store(taken, cancelled)
    tokens, outcome = await whole(stub, request_id, 1)
    assert (tokens, outcome.kind) == (chunk(1, "alf"), OutcomeKind.CANCELLED)
    assert (await whole(stub, request_id, 9))[0] is None


async def test_what_cannot_be_waited_for_is_named(
    stub: InferenceServiceAsyncStub, router: ActingRouter
) -> None:
    """Before anything is looked up."""
    for wanted, field in (
        (Attachment(tenant="default", request_id=new_request_id(), wait_s=301.0), "wait"),
        (Attachment(tenant="default", request_id="nonsense"), "request_id"),
        (Attachment(tenant="no tenant", request_id=new_request_id()), "tenant"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.Attach(encode_attach(wanted)):
                pass
        assert problem_of(caught.value).field == field


async def test_a_gateway_that_stops_says_so(
    stub: InferenceServiceAsyncStub, client: HeadraceClient, router: ActingRouter, gateway: RunningGateway
) -> None:
    """Those who wait are told to attach elsewhere when its grace is over."""
    request_id = (await client.submit(model="tiny", prompt="p")).request_id
    waiting = asyncio.create_task(whole(stub, request_id))
    await router.held()
    gateway.stop()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await waiting
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "another" in problem_of(caught.value).message
