"""Generate, from the call to its last response."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import aclosing
from itertools import pairwise
from typing import TYPE_CHECKING

import grpc
import pytest

from headrace.client.client import HeadraceClient
from headrace.contract.deliver import Delivery
from headrace.contract.errors import DeadlinePassed, EngineFailed, InvalidRequest, NotFound, OutputLost
from headrace.contract.ids import new_request_id
from headrace.contract.inference_wire import encode_generate
from headrace.contract.requests import ChatMessage, Request
from headrace.contract.values import (
    Accepted,
    Failure,
    FinishReason,
    Outcome,
    OutcomeKind,
    Priority,
    QueuePosition,
    Sampling,
    TokenChunk,
    Usage,
)
from tests.gateway.acting_router import LIMIT_S, ActingRouter, completed

if TYPE_CHECKING:
    from nats.aio.client import Client

    from headrace.runtime.nats_server import EmbeddedNats
    from headrace.v1.inference_pb2_grpc import InferenceServiceAsyncStub

pytestmark = pytest.mark.integration


async def test_streams_accepted_then_tokens_then_finished(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """The first event is the promise with a place in the queue, the last the outcome; the text between is whole."""
    answering = asyncio.create_task(router.answer("Paris, of course"))
    events = [event async for event in client.generate(model="tiny", prompt="The capital of France is")]
    taken = await answering
    assert isinstance(events[0], Accepted)
    assert events[0].request_id == taken.id
    assert events[0].position.ahead == 0
    assert events[0].position.estimated_wait_s == 0.0
    chunks = [event for event in events if isinstance(event, TokenChunk)]
    assert "".join(chunk.text for chunk in chunks) == "Paris, of course"
    assert chunks[0].first_index == 0
    assert all(a.next_index == b.first_index for a, b in pairwise(chunks))
    last = events[-1]
    assert isinstance(last, Outcome)
    assert (last.kind, last.finish_reason) == (OutcomeKind.COMPLETED, FinishReason.END)
    assert last.usage.output_tokens == len("Paris, of course")
    assert last.text == ""


async def test_the_request_reaches_the_queue_as_it_was_asked(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """Every field arrives, with the message's id, and the gateway that holds the client."""
    answering = asyncio.create_task(router.answer("x"))
    request_id = new_request_id()
    await client.complete(
        model="tiny",
        messages=[{"role": "user", "content": "Hello"}],
        priority="high",
        tenant="blue",
        max_tokens=7,
        temperature=0.7,
        top_k=5,
        top_p=0.9,
        repetition_penalty=1.1,
        stop=["\n"],
        request_id=request_id,
        timeout_s=60,
    )
    taken = await answering
    request = taken.request
    assert taken.message.subject == "hr.v1.req.tiny.high.blue"
    assert (taken.message.headers or {})["Nats-Msg-Id"] == request_id == request.id
    assert request.messages == (ChatMessage(role="user", content="Hello"),)
    assert request.priority is Priority.HIGH
    assert request.sampling == Sampling(temperature=0.7, top_k=5, top_p=0.9, repetition_penalty=1.1)
    assert (request.max_tokens, request.stop) == (7, ("\n",))
    assert request.gateway.startswith("gw-")
    assert request.deadline_s is not None
    assert request.deadline_s - time.time() == pytest.approx(60, abs=5.0)


async def test_the_earlier_of_both_deadlines_counts(
    stub: InferenceServiceAsyncStub, router: ActingRouter
) -> None:
    """The field's deadline is kept where the call has more time, and the call's where it has less."""
    for field_s, call_s, expected_s in ((20.0, 60.0, 20.0), (60.0, 20.0, 20.0)):
        request = Request(
            id="",
            tenant="default",
            model="tiny",
            priority=Priority.NORMAL,
            prompt="p",
            deadline_s=time.time() + field_s,
        )
        answering = asyncio.create_task(router.answer("x"))
        async for _ in stub.Generate(encode_generate(request), timeout=call_s):
            pass
        deadline_s = (await answering).request.deadline_s
        assert deadline_s is not None
        assert deadline_s - time.time() == pytest.approx(expected_s, abs=5.0)


async def test_places_in_the_queue_are_passed_on(client: HeadraceClient, router: ActingRouter) -> None:
    """A client that waits learns when it moves up."""
    async with aclosing(client.generate(model="tiny", prompt="p")) as events:
        assert isinstance(await anext(events), Accepted)
        taken = await router.take()
        place = QueuePosition(ahead=4, estimated_wait_s=2.0)
        router.say(Delivery(request_id=taken.id, queued=place))
        assert await anext(events) == place


async def test_a_slow_client_gets_everything_in_fewer_chunks(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """While it does not read, its tokens are joined; a fast client beside it is not slowed."""
    pieces = [f"{index:04}" * 16_384 for index in range(200)]  # 13 MB: more than the connection holds (6 MB)
    async with aclosing(client.generate(model="tiny", prompt="slow")) as slow:
        await anext(slow)
        taken = await router.take()
        for index, piece in enumerate(pieces):
            tokens = TokenChunk(first_index=index, token_ids=(index,), text=piece)
            router.say(Delivery(request_id=taken.id, tokens=tokens))
        answering = asyncio.create_task(router.answer("quick"))
        assert (await client.complete(model="tiny", prompt="fast")).text == "quick"
        await answering
        outcome = Outcome(
            request_id=taken.id,
            kind=OutcomeKind.COMPLETED,
            model="tiny",
            usage=Usage(output_tokens=len(pieces)),
            finish_reason=FinishReason.LENGTH,
        )
        router.say(Delivery(request_id=taken.id, finished=outcome))
        chunks = [event async for event in slow if isinstance(event, TokenChunk)]
    assert "".join(chunk.text for chunk in chunks) == "".join(pieces)
    assert [token for chunk in chunks for token in chunk.token_ids] == list(range(len(pieces)))
    assert len(chunks) < len(pieces)


async def test_lost_tokens_are_filled_in_from_the_durable_outcome(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """A delivery that never arrives makes no gap: the rest comes from the outcome before the end."""

    async def lossy() -> None:
        taken = await router.take()
        router.tokens(taken.id, 0, "The ")
        router.tokens(taken.id, 9, "brown")  # "quick" got lost
        await router.finish(taken, "The quick brown")

    acting = asyncio.create_task(lossy())
    outcome = await client.complete(model="tiny", prompt="p")
    await acting
    assert outcome.text == "The quick brown"
    assert len(outcome.token_ids) == outcome.usage.output_tokens


async def test_lost_tokens_that_nothing_can_fill_in_end_the_stream_clearly(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """A client never takes half an answer for a whole one."""

    async def lossy() -> None:
        taken = await router.take()
        router.tokens(taken.id, 0, "The ")
        router.say(Delivery(request_id=taken.id, finished=completed(taken.id, "The end")))

    acting = asyncio.create_task(lossy())
    with pytest.raises(OutputLost, match="index 4 on were lost"):
        await client.complete(model="tiny", prompt="p")
    await acting


async def test_a_failed_request_raises_its_error(client: HeadraceClient, router: ActingRouter) -> None:
    """The error of the outcome reaches the caller with its code, its field and its text."""
    failures = [
        (
            Failure(code="INVALID_REQUEST", message="prompt: is 300 tokens; 128 fit", field="prompt"),
            InvalidRequest,
        ),
        (Failure(code="ENGINE_FAILED", message="the engine failed: out of memory"), EngineFailed),
    ]
    for failure, kind in failures:
        generating = asyncio.create_task(client.complete(model="tiny", prompt="p"))
        taken = await router.take()
        outcome = Outcome(
            request_id=taken.id, kind=OutcomeKind.FAILED, model="tiny", usage=Usage(), failure=failure
        )
        await router.store(taken, outcome)
        router.say(Delivery(request_id=taken.id, finished=outcome))
        with pytest.raises(kind) as caught:
            await generating
        assert str(caught.value) == failure.message


async def test_a_client_that_leaves_ends_its_request(client: HeadraceClient, router: ActingRouter) -> None:
    """Closing the iterator reaches the router that holds the request, and the outcome is durable."""
    async with aclosing(client.generate(model="tiny", prompt="p")) as events:
        accepted = await anext(events)
        assert isinstance(accepted, Accepted)
        await router.take()
    async with asyncio.timeout(LIMIT_S):
        assert await router.cancels.get() == (accepted.request_id, "cancelled")
    outcome = await client.result(accepted.request_id, wait_s=LIMIT_S)
    assert outcome.kind is OutcomeKind.CANCELLED


async def test_a_client_that_leaves_ends_no_request_that_is_followed_elsewhere(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """The router knows of the other gateways' clients; the request goes on for them."""
    async with aclosing(client.generate(model="tiny", prompt="p")) as events:
        await anext(events)
        taken = await router.take()
        router.followed.add(taken.id)
    async with asyncio.timeout(LIMIT_S):
        assert await router.cancels.get() == (taken.id, "cancelled")
    with pytest.raises(NotFound):
        await client.result(taken.id, wait_s=1.0)
    await router.finish(taken, "on")
    assert (await client.result(taken.id)).text == "on"


async def test_a_call_that_ends_before_it_is_accepted_takes_its_id_from_nobody(
    client: HeadraceClient, router: ActingRouter, nc: Client, fresh_nats: EmbeddedNats
) -> None:
    """A client that lost patience asks another gateway with the same id: this one must not end that request later."""
    request_id = new_request_id()
    subject, headers = "hr.v1.req.tiny.normal.default", {"Nats-Msg-Id": request_id}
    await client.models()
    assert fresh_nats.pid is not None
    await nc.jetstream().publish(subject, b"{}", headers=headers)  # by way of the other
    os.kill(fresh_nats.pid, signal.SIGSTOP)
    try:
        asked = client.complete(model="tiny", prompt="p", request_id=request_id)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asked, 0.5)  # it hangs up
    finally:
        os.kill(fresh_nats.pid, signal.SIGCONT)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(router.cancels.get(), 1.5)


async def test_a_client_that_leaves_before_any_router_took_its_request_ends_it(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """The outcome is there before the request is pulled: the router that finds it computes nothing."""
    async with aclosing(client.generate(model="tiny", prompt="p")) as events:
        accepted = await anext(events)
        assert isinstance(accepted, Accepted)
    outcome = await client.result(accepted.request_id, wait_s=LIMIT_S)
    assert outcome.kind is OutcomeKind.CANCELLED


async def test_a_call_whose_deadline_passes_is_ended_as_expired(
    client: HeadraceClient, router: ActingRouter
) -> None:
    """The router hears of it, with the reason."""
    with pytest.raises(DeadlinePassed):
        await client.complete(model="tiny", prompt="p", timeout_s=0.5)
    async with asyncio.timeout(LIMIT_S):
        _, kind = await router.cancels.get()
    assert kind == "expired"


async def test_a_deadline_field_alone_ends_the_call_where_no_router_does(
    stub: InferenceServiceAsyncStub, router: ActingRouter
) -> None:
    """Nobody waits for ever for a router that is gone."""
    request = Request(
        id="",
        tenant="default",
        model="tiny",
        priority=Priority.NORMAL,
        prompt="p",
        deadline_s=time.time() + 0.3,
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stub.Generate(encode_generate(request)):
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(LIMIT_S):
        _, kind = await router.cancels.get()
    assert kind == "expired"
