"""A stream whose gateway is lost goes on at another one, and its reader does not notice."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest

from headrace.client import unbroken
from headrace.client.client import HeadraceClient
from headrace.client.gateways import Gateways
from headrace.contract.errors import DeadlinePassed, InvalidRequest, NotFound, Overloaded, Unavailable
from headrace.contract.inference_wire import (
    accepted_response,
    attach_response,
    cancel_response,
    decode_attach,
    decode_generate,
    generate_response,
    models_response,
    result_response,
    submit_response,
)
from headrace.contract.task_wire import embed_response
from headrace.contract.values import (
    Accepted,
    FinishReason,
    Outcome,
    OutcomeKind,
    QueuePosition,
    TokenChunk,
    Usage,
)
from headrace.runtime.grpc_server import GrpcServer
from headrace.runtime.telemetry import telemetry_off
from headrace.v1.inference_pb2_grpc import (
    InferenceServiceServicer,
    InferenceServiceStub,
    add_InferenceServiceServicer_to_server,
)
from tests.ports import free_port

TEXT = "The quick brown fox jumps over the lazy dog"
HERE = QueuePosition(ahead=0, estimated_wait_s=None)
LIMIT_S = 20.0


def chunk(first: int, end: int) -> TokenChunk:
    """Those tokens of TEXT: one per character."""
    text = TEXT[first:end]
    return TokenChunk(
        first_index=first, token_ids=tuple(map(ord, text)), text=text, text_lengths=(1,) * len(text)
    )


def outcome(request_id: str) -> Outcome:
    return Outcome(
        request_id=request_id,
        kind=OutcomeKind.COMPLETED,
        model="tiny",
        usage=Usage(output_tokens=len(TEXT)),
        finish_reason=FinishReason.END,
    )


class Mesh:
    """What all gateways of a test know: the requests, and what was asked of whom."""

    def __init__(self) -> None:
        self.published: list[str] = []
        self.calls: list[tuple[str, str]] = []
        self.attached_from: list[int] = []
        self.cancelled: asyncio.Queue[str] = asyncio.Queue()
        self._called = asyncio.Event()

    def called(self, name: str, method: str) -> None:
        self.calls.append((name, method))
        self._called.set()

    async def until(self, seen: Callable[[], bool]) -> None:
        """Returns at the first call after which it is so."""
        async with asyncio.timeout(LIMIT_S):
            while not seen():
                self._called.clear()
                await self._called.wait()


class ActingGateway(InferenceServiceServicer):
    """Streams TEXT token by token. It `breaks` its streams before that token, with `error`, or hangs there for ever.

    `refuses` is what any call is refused with.
    """

    def __init__(self, mesh: Mesh, name: str, breaks: int | None = None) -> None:
        self.mesh = mesh
        self.name = name
        self.breaks = breaks
        self.hangs = False
        self.cuts_off = False
        """Whether it breaks them as gRPC does with what runs in a server that ends, without an error of ours."""
        self.error: Exception = Unavailable("gateway", "it is stopping")
        self.refuses: Exception | None = None
        self.address = ""

    def _asked(self, method: str) -> None:
        self.mesh.called(self.name, method)
        if self.refuses is not None:
            raise self.refuses

    async def Embed(self, request: Any, context: Any) -> Any:
        self._asked("Embed")
        if request.request_id not in self.mesh.published:
            self.mesh.published.append(request.request_id)
        if self.breaks == -1:
            raise self.error
        vectors = tuple(struct.pack("<2f", len(text), 0.5) for text in request.texts)
        return embed_response(replace(outcome(request.request_id), vectors=vectors))

    def Translate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        raise NotImplementedError

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self._asked("Generate")
        asked = decode_generate(request)
        request_id = asked.id or "0198c5a2-0000-7000-8000-000000000000"
        if request_id not in self.mesh.published:
            self.mesh.published.append(request_id)
        if self.breaks == -1:
            raise self.error
        yield accepted_response(request_id, HERE)
        async for event in self._stream(request_id, 0, context):
            yield generate_response(event)

    async def Attach(self, request: Any, context: Any) -> AsyncIterator[Any]:
        wanted = decode_attach(request)
        self.mesh.attached_from.append(wanted.from_index)
        self._asked("Attach")
        if wanted.request_id not in self.mesh.published:
            raise NotFound("request", wanted.request_id)
        yield attach_response(Accepted(request_id=wanted.request_id, position=HERE))
        async for event in self._stream(wanted.request_id, wanted.from_index, context):
            yield attach_response(event)

    async def _stream(self, request_id: str, index: int, context: Any) -> AsyncIterator[TokenChunk | Outcome]:
        for at in range(index, len(TEXT)):
            if self.breaks is not None and at >= self.breaks:
                if self.hangs:
                    await asyncio.sleep(LIMIT_S)
                if self.cuts_off:
                    await context.abort(grpc.StatusCode.CANCELLED, "CANCELLED")
                raise self.error
            yield chunk(at, at + 1)
        yield outcome(request_id)

    async def Submit(self, request: Any, context: Any) -> Any:
        self._asked("Submit")
        asked = decode_generate(request.request)
        if asked.id not in self.mesh.published:
            self.mesh.published.append(asked.id)
        return submit_response(asked.id, HERE)

    async def GetResult(self, request: Any, context: Any) -> Any:
        self._asked("GetResult")
        return result_response(outcome(request.request_id))

    async def Cancel(self, request: Any, context: Any) -> Any:
        self._asked("Cancel")
        self.mesh.cancelled.put_nowait(request.request_id)
        return cancel_response(OutcomeKind.CANCELLED)

    async def ListModels(self, request: Any, context: Any) -> Any:
        self._asked("ListModels")
        return models_response([])


Serve = Callable[..., Any]


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


@pytest.fixture
async def serve(mesh: Mesh) -> AsyncIterator[Serve]:
    """Starts an acting gateway, by default on any free port; its server is at `gateway.server`."""
    async with AsyncExitStack() as stack:

        async def start(name: str, breaks: int | None = None, port: int = 0) -> ActingGateway:
            acting = ActingGateway(mesh, name, breaks)

            def register(server: grpc.aio.Server) -> None:
                add_InferenceServiceServicer_to_server(acting, server)

            server = GrpcServer(
                host="127.0.0.1",
                port=port,
                setting="test",
                register=register,
                tracer=telemetry_off().tracer,
                grace_s=0.0,
            )
            await stack.enter_async_context(server)
            acting.address = server.address
            acting.server = server  # type: ignore[attr-defined]
            return acting

        yield start


async def read(client: HeadraceClient, **ask: Any) -> list[unbroken.Event]:
    async with asyncio.timeout(LIMIT_S):
        return [event async for event in client.generate(model="tiny", prompt="p", **ask)]


def check_whole(events: list[unbroken.Event], from_index: int = 0) -> None:
    """Accepted once and first, each index once, the outcome last."""
    first, *chunks, last = events
    assert isinstance(first, Accepted)
    joined: TokenChunk | None = None
    for event in chunks:
        assert isinstance(event, TokenChunk)
        joined = event if joined is None else joined.joined(event)
    assert joined == chunk(from_index, len(TEXT))
    assert last == outcome(first.request_id)


async def test_a_stream_goes_on_at_the_next_gateway(serve: Serve, mesh: Mesh) -> None:
    """From its last index, and nothing is asked for twice."""
    one, two = await serve("one", breaks=10), await serve("two")
    async with HeadraceClient(f"{one.address},{two.address}") as client:
        check_whole(await read(client))
    assert (mesh.attached_from, len(mesh.published)) == ([10], 1)


async def test_a_stream_that_is_cut_off_goes_on(serve: Serve, mesh: Mesh) -> None:
    """By a gateway that ends, or by a proxy: gRPC tells CANCELLED, and no error of ours."""
    one, two = await serve("one", breaks=10), await serve("two")
    one.cuts_off = True
    async with HeadraceClient(f"{one.address},{two.address}") as client:
        check_whole(await read(client))
    assert (mesh.attached_from, len(mesh.published)) == ([10], 1)


async def test_however_often_gateways_break_it_is_whole(serve: Serve, mesh: Mesh) -> None:
    """Round and round, also when one breaks before its first token."""
    one, two = await serve("one", breaks=5), await serve("two", breaks=20)
    async with HeadraceClient(f"{one.address}, {two.address}") as client:
        reading = asyncio.create_task(read(client))
        await mesh.until(lambda: mesh.attached_from.count(20) > 1)
        one.breaks = two.breaks = None
        check_whole(await reading)
    assert len(mesh.published) == 1


async def test_a_single_gateway_is_waited_for(serve: Serve, mesh: Mesh) -> None:
    """Its restart is invisible."""
    port = free_port()
    one = await serve("one", breaks=7, port=port)
    one.hangs = True
    async with (
        HeadraceClient(one.address) as client,
        aclosing(client.generate(model="tiny", prompt="p")) as events,
    ):
        seen = [await anext(events) for _ in range(8)]
        going_on = asyncio.create_task(anext(events))
        await one.server.stop(0.0)
        await asyncio.sleep(0.2)  # it is away for a while
        assert not going_on.done()
        await serve("again", port=port)
        async with asyncio.timeout(LIMIT_S):
            seen.append(await going_on)
            seen += [event async for event in events]
    check_whole(seen)
    assert mesh.attached_from == [7]


async def test_a_gateway_that_breaks_before_it_accepts_is_asked_once(serve: Serve, mesh: Mesh) -> None:
    """Nobody knows whether it published: the next one is asked with the same id, and does nothing twice."""
    one, two = await serve("one", breaks=-1), await serve("two")
    async with HeadraceClient(f"{one.address},{two.address}") as client:
        check_whole(await read(client))
    assert mesh.calls == [("one", "Generate"), ("two", "Generate")]
    assert len(mesh.published) == 1


async def test_where_none_accepts_the_error_comes_at_once(serve: Serve, mesh: Mesh) -> None:
    """After each was asked once."""
    gateways = [await serve(name, breaks=-1) for name in ("one", "two", "three")]
    async with HeadraceClient(",".join(each.address for each in gateways)) as client:
        with pytest.raises(Unavailable, match="stopping"):
            await read(client)
    assert [name for name, _ in mesh.calls] == ["one", "two", "three"]


async def test_a_single_gateway_that_does_not_accept_is_asked_once(serve: Serve, mesh: Mesh) -> None:
    """It chose the id itself: who asks again might ask for two."""
    one = await serve("one", breaks=-1)
    async with HeadraceClient(one.address) as client:
        with pytest.raises(Unavailable, match="stopping"):
            await read(client)
    assert len(mesh.calls) == 1


async def test_it_is_given_up_when_no_gateway_comes_back(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is the last one."""
    monkeypatch.setattr(unbroken, "GIVE_UP_S", 0.3)
    one = await serve("one", breaks=3)
    async with HeadraceClient(one.address) as client:
        with pytest.raises(Unavailable, match="stopping"):
            await read(client)


async def test_one_that_is_full_is_waited_for_while_the_stream_goes_on(serve: Serve, mesh: Mesh) -> None:
    """The request is accepted; that a gateway has no room for its stream now is no reason to lose it."""
    one, two = await serve("one", breaks=3), await serve("two")
    two.refuses = Overloaded("all streams are in use", 0.1)
    async with HeadraceClient(f"{one.address},{two.address}") as client:
        reading = asyncio.create_task(read(client))
        await mesh.until(lambda: ("two", "Attach") in mesh.calls)
        two.refuses = None
        check_whole(await reading)


async def test_without_reattach_the_error_is_raised(serve: Serve, mesh: Mesh) -> None:
    """For callers that want to know."""
    one, two = await serve("one", breaks=3), await serve("two")
    async with HeadraceClient(f"{one.address},{two.address}", reattach=False) as client:
        with pytest.raises(Unavailable, match="stopping"):
            await read(client)
    assert mesh.attached_from == []


async def test_other_errors_end_a_stream(serve: Serve, mesh: Mesh) -> None:
    """They are the request's, not the gateway's."""
    one = await serve("one", breaks=3)
    one.error = InvalidRequest("prompt", "is too long")
    async with HeadraceClient(one.address) as client:
        with pytest.raises(InvalidRequest, match="too long"):
            await read(client)
    assert mesh.attached_from == []


async def test_the_time_for_an_answer_is_for_all_calls_together(serve: Serve) -> None:
    """However often it was begun."""
    one = await serve("one", breaks=3)
    async with HeadraceClient(one.address) as client:
        with pytest.raises(DeadlinePassed):
            await read(client, timeout_s=0.5)


async def test_leaving_a_stream_that_was_gone_on_with_ends_its_request(serve: Serve, mesh: Mesh) -> None:
    """As leaving the first call does; a kept request goes on."""
    one, two = await serve("one", breaks=3), await serve("two", breaks=8)
    two.hangs = True
    async with HeadraceClient(f"{one.address},{two.address}") as client:
        for keep in (True, False):
            client._gateways = Gateways(f"{one.address},{two.address}", InferenceServiceStub)
            async with aclosing(client.generate(model="tiny", prompt="p", keep=keep)) as events:
                async for event in events:
                    if isinstance(event, TokenChunk) and event.next_index == 8:
                        break
        assert mesh.attached_from == [3, 3]
        async with asyncio.timeout(LIMIT_S):
            assert await mesh.cancelled.get() == mesh.published[1]
        assert mesh.cancelled.empty()


async def test_cancelling_the_caller_of_a_stream_that_was_gone_on_with_ends_its_request(
    serve: Serve, mesh: Mesh
) -> None:
    """Inside `complete`, too."""
    one, two = await serve("one", breaks=3), await serve("two", breaks=8)
    two.hangs = True
    async with HeadraceClient(f"{one.address},{two.address}") as client:
        completing = asyncio.create_task(client.complete(model="tiny", prompt="p"))
        await mesh.until(lambda: bool(mesh.attached_from))
        completing.cancel()
        async with asyncio.timeout(LIMIT_S):
            assert await mesh.cancelled.get() == mesh.published[0]


async def test_attach_goes_on_as_well(serve: Serve, mesh: Mesh) -> None:
    """From the index that was reached; leaving it ends nothing."""
    one, two = await serve("one", breaks=10), await serve("two")
    async with HeadraceClient(f"{one.address},{two.address}") as client:
        request_id = (await client.submit(model="tiny", prompt="p")).request_id
        events = [event async for event in client.attach(request_id, 4)]
        check_whole(events, 4)
        assert mesh.attached_from == [4, 10]
        client._gateways = Gateways(f"{one.address},{two.address}", InferenceServiceStub)
        async with aclosing(client.attach(request_id)) as left:
            for _ in range(15):
                await anext(left)
    assert mesh.cancelled.empty()


async def test_attach_to_what_nobody_knows_is_not_found(serve: Serve, mesh: Mesh) -> None:
    """At once; the other gateways know no more."""
    one, two = await serve("one"), await serve("two")
    async with HeadraceClient(f"{one.address},{two.address}") as client:
        with pytest.raises(NotFound):
            async for _ in client.attach("0198c5a2-0000-7000-8000-000000000001"):
                pass
    assert mesh.attached_from == [0]


@pytest.mark.parametrize("lost", ["refuses", "nobody there"])
async def test_other_calls_try_the_next_gateway(serve: Serve, mesh: Mesh, lost: str) -> None:
    """Each of them; a request is submitted once, however often it is sent."""
    one, two = await serve("one"), await serve("two")
    one.refuses = Unavailable("gateway", "it is stopping")
    first = one.address if lost == "refuses" else f"127.0.0.1:{free_port()}"
    asked: tuple[Callable[[HeadraceClient], Awaitable[object]], ...] = (
        lambda client: client.submit(model="tiny", prompt="p"),
        lambda client: client.result("0198c5a2-0000-7000-8000-000000000000"),
        lambda client: client.cancel("0198c5a2-0000-7000-8000-000000000000"),
        lambda client: client.models(),
    )
    for asking in asked:
        async with HeadraceClient(f"{first},{two.address}") as client, asyncio.timeout(LIMIT_S):
            await asking(client)
    assert len(mesh.published) == 1
    assert [method for name, method in mesh.calls if name == "two"] == [
        "Submit",
        "GetResult",
        "Cancel",
        "ListModels",
    ]


async def test_where_no_gateway_answers_a_call_the_error_says_so(serve: Serve, mesh: Mesh) -> None:
    """After each was asked once."""
    gateways = [await serve(name) for name in ("one", "two")]
    for each in gateways:
        each.refuses = Unavailable("gateway", "it is stopping")
    async with HeadraceClient(",".join(each.address for each in gateways)) as client:
        with pytest.raises(Unavailable, match="stopping"):
            await client.models()
    assert [name for name, _ in mesh.calls] == ["one", "two"]


@pytest.mark.parametrize("addresses", ["", "gw-1", "gw-1:7700,", "gw-1:7700,,gw-2:7700", "http://gw:1"])
def test_what_is_no_address_is_refused(addresses: str) -> None:
    """Before anything is called."""
    with pytest.raises(InvalidRequest, match="HOST:PORT"):
        HeadraceClient(addresses)


async def test_texts_are_embedded_by_the_next_gateway_under_the_same_id(mesh: Mesh, serve: Serve) -> None:
    """So they are embedded once, whichever gateway is lost."""
    first, second = await serve("a", breaks=-1), await serve("b")
    async with HeadraceClient(f"{first.address},{second.address}") as client:
        done = await client.embed(["abc", "d"], model="tiny", timeout_s=LIMIT_S)
    assert done.embeddings == ((3.0, 0.5), (1.0, 0.5))
    assert mesh.published == [done.request_id]


async def test_texts_that_are_refused_are_not_sent_elsewhere(mesh: Mesh, serve: Serve) -> None:
    """The error names the text."""
    first, second = await serve("a"), await serve("b")
    first.refuses = InvalidRequest("texts[3]", "has 300 tokens; the context length is 256")
    async with HeadraceClient(f"{first.address},{second.address}") as client:
        with pytest.raises(InvalidRequest, match="300 tokens") as refused:
            await client.embed(["abc"], model="tiny", timeout_s=LIMIT_S)
    assert refused.value.field == "texts[3]"
    assert not mesh.published
