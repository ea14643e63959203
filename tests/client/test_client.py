"""What the client sends and how it ends its calls, against a gateway that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio
import pytest
from opentelemetry.sdk.trace import TracerProvider

from headrace.client.client import HeadraceClient
from headrace.client.request import request_of
from headrace.contract.errors import InvalidRequest, NotFound, Unavailable
from headrace.contract.inference_wire import (
    accepted_response,
    decode_generate,
    finished_response,
    result_response,
    tokens_response,
)
from headrace.contract.requests import ChatMessage
from headrace.contract.values import (
    Accepted,
    FinishReason,
    Outcome,
    OutcomeKind,
    Priority,
    QueuePosition,
    TokenChunk,
    Usage,
)
from headrace.runtime.grpc_server import GrpcServer
from headrace.runtime.telemetry import telemetry_off
from headrace.v1.inference_pb2_grpc import InferenceServiceServicer, add_InferenceServiceServicer_to_server

REQUEST_ID = "0198c5a2-0000-7000-8000-000000000000"
DONE = Outcome(
    request_id=REQUEST_ID,
    kind=OutcomeKind.COMPLETED,
    model="tiny",
    usage=Usage(output_tokens=3),
    finish_reason=FinishReason.LENGTH,
)


class ActingGateway(InferenceServiceServicer):
    """Answers Generate with two chunks; "hang" goes on without an end, "cut" ends without an outcome.

    GetResult finds the outcome at the third time of asking.
    """

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}
        self.asked = 0
        self.began = asyncio.Event()
        self.ended = asyncio.Event()

    async def Embed(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    def Translate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        raise NotImplementedError

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.metadata = dict(context.invocation_metadata())
        self.began.set()
        prompt = decode_generate(request).prompt
        try:
            yield accepted_response(REQUEST_ID, QueuePosition(ahead=1, estimated_wait_s=None))
            yield tokens_response(TokenChunk(first_index=0, token_ids=(1, 2), text="Hel"))
            if prompt == "hang":
                await asyncio.sleep(60)
            yield tokens_response(TokenChunk(first_index=2, token_ids=(3,), text="lo"))
            if prompt != "cut":
                yield finished_response(DONE)
        finally:
            self.ended.set()

    async def GetResult(self, request: Any, context: Any) -> Any:
        self.asked += 1
        if self.asked < 3:
            raise NotFound("outcome of request", request.request_id)
        return result_response(DONE)

    async def Attach(self, request: Any, context: Any) -> AsyncIterator[Any]:
        raise NotImplementedError
        yield  # type: ignore[unreachable]  # makes it a generator

    async def Submit(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Cancel(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def ListModels(self, request: Any, context: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
def acting() -> ActingGateway:
    return ActingGateway()


@pytest.fixture
async def address(acting: ActingGateway) -> AsyncIterator[str]:
    def register(server: grpc.aio.Server) -> None:
        add_InferenceServiceServicer_to_server(acting, server)

    server = GrpcServer(
        host="127.0.0.1",
        port=0,
        setting="test",
        register=register,
        tracer=telemetry_off().tracer,
        grace_s=0.0,
    )
    async with server:
        yield server.address


@pytest.fixture
async def client(address: str) -> AsyncIterator[HeadraceClient]:
    async with HeadraceClient(address) as connected:
        yield connected


async def test_complete_joins_the_chunks(client: HeadraceClient) -> None:
    """The outcome has the text and the tokens that came before it."""
    outcome = await client.complete(model="tiny", prompt="p")
    assert (outcome.text, outcome.token_ids, outcome.finish_reason) == (
        "Hello",
        (1, 2, 3),
        FinishReason.LENGTH,
    )


async def test_generate_gives_typed_events(client: HeadraceClient) -> None:
    """In the order in which they came."""
    events = [event async for event in client.generate(model="tiny", prompt="p")]
    assert [type(event) for event in events] == [Accepted, TokenChunk, TokenChunk, Outcome]


async def test_closing_the_iterator_cancels_the_call(client: HeadraceClient, acting: ActingGateway) -> None:
    """The gateway learns at once."""
    async with aclosing(client.generate(model="tiny", prompt="hang")) as events:
        await anext(events)
    async with asyncio.timeout(5):
        await acting.ended.wait()


async def test_cancelling_the_caller_cancels_the_call(client: HeadraceClient, acting: ActingGateway) -> None:
    """Also inside complete."""
    completing = asyncio.create_task(client.complete(model="tiny", prompt="hang"))
    async with asyncio.timeout(5):
        await acting.began.wait()
        completing.cancel()
        await acting.ended.wait()


async def test_a_stream_without_an_end_is_an_error(address: str) -> None:
    """A proxy that cuts the stream off is not taken for a finished generation."""
    async with HeadraceClient(address, reattach=False) as client:
        with pytest.raises(Unavailable, match="ended without an outcome"):
            await client.complete(model="tiny", prompt="cut")


async def test_result_asks_again_while_there_is_time(client: HeadraceClient, acting: ActingGateway) -> None:
    """A gateway may wait for less than was asked for."""
    assert await client.result(REQUEST_ID, wait_s=30) == DONE
    assert acting.asked == 3


async def test_the_current_trace_goes_along(client: HeadraceClient, acting: ActingGateway) -> None:
    """And none where there is none."""
    await client.complete(model="tiny", prompt="p")
    assert "traceparent" not in acting.metadata
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("caller") as span:
        await client.complete(model="tiny", prompt="p")
    assert format(span.get_span_context().trace_id, "032x") in acting.metadata["traceparent"]


async def test_nobody_there_is_unavailable() -> None:
    """The error says who was not reachable."""
    async with HeadraceClient("127.0.0.1:1") as client:
        with pytest.raises(Unavailable):
            await client.models()


async def test_a_closed_client_says_so() -> None:
    """Not used inside `async with`."""
    with pytest.raises(RuntimeError, match="closed"):
        await HeadraceClient("127.0.0.1:1").models()


def test_a_request_is_made_of_plain_words() -> None:
    """Words, mappings and single strings are taken as what they mean."""
    request = request_of(
        "tiny",
        {"messages": [{"role": "user", "content": "x"}], "priority": "batch", "stop": "\n", "max_tokens": 5},
    )
    assert request.messages == (ChatMessage(role="user", content="x"),)
    assert (request.priority, request.stop, request.max_tokens) == (Priority.BATCH, ("\n",), 5)


@pytest.mark.parametrize(
    ("ask", "field"),
    [
        ({"priority": "urgent"}, "priority"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"top_k": 2**40}, "sampling.top_k"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
    ],
)
def test_what_cannot_be_sent_names_its_field(ask: Any, field: str) -> None:
    """Before a call is made."""
    with pytest.raises(InvalidRequest) as caught:
        request_of("tiny", ask)
    assert caught.value.field == field
