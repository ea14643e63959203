"""Spans of gRPC calls: both ways of answering, statuses, cancellation, and the context that passes through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracer, Tracer

from headrace.contract.errors import InvalidRequest
from headrace.runtime.grpc_channel import open_channel
from headrace.runtime.grpc_server import GrpcServer
from headrace.runtime.grpc_tracing import call_metadata, client_call
from headrace.runtime.propagation import current_trace, metadata_of, parse
from tests.runtime.grpc_services import (
    Servicer,
    all_of,
    bidirectional,
    call_bidirectional,
    call_streaming,
    call_unary,
    streaming,
    unary,
)

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = PARENT.split("-")[1]


class Recorded:
    """A tracer, and the spans that ended, in their order; `ended` waits for a number of them."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def only(self) -> ReadableSpan:
        (span,) = self.spans
        return span


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@asynccontextmanager
async def serving(register: Servicer, tracer: Tracer) -> AsyncIterator[grpc.aio.Channel]:
    async with (
        GrpcServer(host="127.0.0.1", port=0, setting="TEST_PORT", register=register, tracer=tracer) as server,
        open_channel(server.address) as channel,
    ):
        yield channel


def attribute(span: ReadableSpan, name: str) -> object:
    return (span.attributes or {}).get(name)


async def echo(request: bytes, context: Any) -> bytes:
    return request + current_trace().traceparent.encode()


async def by_generator(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for part in (b"1", b"2", current_trace().traceparent.encode()):
        yield request + part


async def by_write(request: bytes, context: Any) -> None:
    for part in (b"1", b"2", current_trace().traceparent.encode()):
        await context.write(request + part)


async def test_unary_call(recorded: Recorded) -> None:
    """A unary call is a SERVER span named by its method, below the caller's, and current in the handler."""
    async with serving(unary("Echo", echo), recorded.tracer) as channel:
        answer = await call_unary(channel, "/test.Service/Echo")(b"", metadata=metadata_of(parse(PARENT)))
    span = recorded.only()
    assert (span.name, span.kind) == ("test.Service/Echo", trace.SpanKind.SERVER)
    assert dict(span.attributes or {}) == {
        "rpc.system.name": "grpc",
        "rpc.method": "test.Service/Echo",
        "rpc.response.status_code": "OK",
    }
    assert span.status.status_code is trace.StatusCode.UNSET
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]
    assert span.context is not None
    assert answer.decode() == f"00-{TRACE_ID}-{span.context.span_id:016x}-01"


@pytest.mark.parametrize("answer", [by_generator, by_write])
async def test_streaming_call(answer: Any, recorded: Recorded) -> None:
    """A stream of responses is one span, whether a generator or `context.write()` makes it, and comes in order."""
    async with serving(streaming("Count", answer), recorded.tracer) as channel:
        call = call_streaming(channel, "/test.Service/Count")(b"n", metadata=metadata_of(parse(PARENT)))
        got = [message async for message in call]
    span = recorded.only()
    assert span.context is not None
    assert got == [b"n1", b"n2", f"n00-{TRACE_ID}-{span.context.span_id:016x}-01".encode()]
    assert attribute(span, "rpc.response.status_code") == "OK"


async def test_concurrent_calls_do_not_mix(recorded: Recorded) -> None:
    """Each call sees its own context, also when they overlap, and a call without a parent is a trace of its own."""
    both = asyncio.Barrier(2)

    async def meet(request: bytes, context: Any) -> bytes:
        await both.wait()
        return current_trace().traceparent.encode()

    async with serving(unary("Meet", meet), recorded.tracer) as channel:
        method = call_unary(channel, "/test.Service/Meet")
        with_parent, without = await asyncio.gather(
            method(b"", metadata=metadata_of(parse(PARENT))), method(b"")
        )
    assert with_parent.decode().split("-")[1] == TRACE_ID
    assert without.decode().split("-")[1] not in (TRACE_ID, "")


@pytest.mark.parametrize(
    "traceparent", ["nonsense", PARENT + "-more", "00-" + "0" * 32 + "-b7ad6b7169203331-01"]
)
async def test_malformed_traceparent_begins_a_new_trace(traceparent: str, recorded: Recorded) -> None:
    """A caller's malformed traceparent costs the caller nothing but the connection of the traces."""
    async with serving(unary("Echo", echo), recorded.tracer) as channel:
        await call_unary(channel, "/test.Service/Echo")(b"", metadata=(("traceparent", traceparent),))
    assert recorded.only().parent is None


async def test_off_the_context_still_passes() -> None:
    """With telemetry off the handler's current context is the caller's, so that the next hop gets it."""
    async with serving(unary("Echo", echo), NoOpTracer()) as channel:
        metadata = (("traceparent", PARENT), ("tracestate", "vendor=1"))
        assert await call_unary(channel, "/test.Service/Echo")(b"", metadata=metadata) == PARENT.encode()
        assert await call_unary(channel, "/test.Service/Echo")(b"") == b""


async def test_abort_and_failures(recorded: Recorded) -> None:
    """An abort is recorded with its status; only what is the server's fault marks the span as an error."""

    async def refuse(request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode[request.decode()], "no")
        raise AssertionError

    async with serving(unary("Refuse", refuse), recorded.tracer) as channel:
        for code in ("NOT_FOUND", "UNAVAILABLE"):
            with pytest.raises(grpc.aio.AioRpcError):
                await call_unary(channel, "/test.Service/Refuse")(code.encode())
    refused, failed = recorded.spans
    assert attribute(refused, "rpc.response.status_code") == "NOT_FOUND"
    assert refused.status.status_code is trace.StatusCode.UNSET
    assert attribute(failed, "rpc.response.status_code") == attribute(failed, "error.type") == "UNAVAILABLE"
    assert failed.status.status_code is trace.StatusCode.ERROR


async def test_raised_errors_are_recorded_by_their_status(recorded: Recorded) -> None:
    """An error of ours is recorded as what it becomes, and no exception's message is in the span."""

    async def invalid(request: bytes, context: Any) -> bytes:
        raise InvalidRequest("max_tokens", "secret prompt")

    async def crash(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        raise ValueError("secret prompt")

    async with serving(
        all_of(unary("Invalid", invalid), streaming("Crash", crash, "test.Other")), recorded.tracer
    ) as ch:
        with pytest.raises(grpc.aio.AioRpcError):
            await call_unary(ch, "/test.Service/Invalid")(b"")
        with pytest.raises(grpc.aio.AioRpcError):
            [_ async for _ in call_streaming(ch, "/test.Other/Crash")(b"")]
    codes = [attribute(span, "rpc.response.status_code") for span in recorded.spans]
    assert codes == ["INVALID_ARGUMENT", "INTERNAL"]
    assert "secret" not in "".join(span.to_json() for span in recorded.spans)


@pytest.mark.parametrize("kind", ["generator in await", "generator at yield", "write", "unary"])
async def test_cancelled_call(kind: str, recorded: Recorded) -> None:
    """A client that goes away cancels the handler at once, its `finally` runs, and the span says CANCELLED."""
    running, ended = asyncio.Event(), asyncio.Event()
    big = b"x" * 1_000_000  # more than the connection's window, so that a writer waits

    async def work(request: bytes, context: Any) -> bytes:
        try:
            running.set()
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    async def generate(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield big
                running.set()
                if kind == "generator in await":
                    await asyncio.Event().wait()
        finally:
            ended.set()

    async def write(request: bytes, context: Any) -> None:
        try:
            while True:
                await context.write(big)
                running.set()
        finally:
            ended.set()

    servicer = {"unary": unary("Do", work), "write": streaming("Do", write)}.get(
        kind, streaming("Do", generate)
    )
    async with serving(servicer, recorded.tracer) as channel:
        if kind == "unary":
            call: Any = call_unary(channel, "/test.Service/Do")(b"")
        else:
            call = call_streaming(channel, "/test.Service/Do")(b"")
            await call.read()
        await running.wait()
        call.cancel()
        async with asyncio.timeout(5):
            await ended.wait()
    span = recorded.only()
    assert attribute(span, "rpc.response.status_code") == "CANCELLED"
    assert span.status.status_code is trace.StatusCode.UNSET


async def test_deadline(recorded: Recorded) -> None:
    """A call whose deadline passes is told apart from one that was cancelled, and the handler is cancelled."""
    cancelled = asyncio.Event()

    async def wait(request: bytes, context: Any) -> bytes:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return b""

    async with serving(unary("Wait", wait), recorded.tracer) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call_unary(channel, "/test.Service/Wait")(b"", timeout=0.1)
        async with asyncio.timeout(5):
            await cancelled.wait()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert attribute(recorded.only(), "rpc.response.status_code") == "DEADLINE_EXCEEDED"


async def test_internal_streams_and_plumbing_have_no_span(recorded: Recorded) -> None:
    """The streams that live as long as their peer, and health checks, leave no span; they work all the same."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    async def work(requests: Any, context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    service = "headrace.v1.RouterService"
    async with serving(bidirectional("Work", work, service), recorded.tracer) as channel:
        call: Any = call_bidirectional(channel, f"/{service}/Work")(iter([b"1", b"2"]))
        assert [message async for message in call] == [b"1", b"2"]
        health: Any = health_pb2_grpc.HealthStub(channel)
        assert (
            await health.Check(health_pb2.HealthCheckRequest())
        ).status == health_pb2.HealthCheckResponse.SERVING
    assert recorded.spans == ()


async def test_unknown_method_has_no_span(recorded: Recorded) -> None:
    """A method that does not exist is refused without a span: its name is the caller's invention."""
    async with serving(unary("Echo", echo), recorded.tracer) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call_unary(channel, "/test.Service/Nope")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert recorded.spans == ()


async def test_client_and_server_span_join(recorded: Recorded) -> None:
    """`client_call` gives the metadata that makes the server's span its child, below what is current."""
    tracer = recorded.tracer
    async with serving(unary("Echo", echo), tracer) as channel:
        with tracer.start_as_current_span("outer"), client_call(tracer, "/test.Service/Echo") as metadata:
            await call_unary(channel, "/test.Service/Echo")(b"", metadata=metadata)
    server, client, outer = recorded.spans
    assert (client.kind, client.name) == (trace.SpanKind.CLIENT, "test.Service/Echo")
    assert client.parent is not None
    assert client.parent.span_id == outer.get_span_context().span_id  # type: ignore[union-attr]
    assert server.parent is not None
    assert server.parent.span_id == client.get_span_context().span_id  # type: ignore[union-attr]
    assert attribute(client, "rpc.response.status_code") == "OK"


async def test_client_span_of_a_failed_call(recorded: Recorded) -> None:
    """To a client every status but OK is an error."""

    async def refuse(request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no")
        raise AssertionError

    async with serving(unary("Refuse", refuse), NoOpTracer()) as channel:
        with (
            pytest.raises(grpc.aio.AioRpcError),
            client_call(recorded.tracer, "test.Service/Refuse") as metadata,
        ):
            await call_unary(channel, "/test.Service/Refuse")(b"", metadata=metadata)
    span = recorded.only()
    assert attribute(span, "error.type") == "NOT_FOUND"
    assert span.status.status_code is trace.StatusCode.ERROR


def test_client_off_passes_the_context_on() -> None:
    """With telemetry off a client still hands its parent on, unchanged."""
    parent = parse(PARENT, "vendor=1")
    with client_call(NoOpTracer(), "test.Service/Echo", parent) as metadata:
        assert metadata == metadata_of(parent) == call_metadata(parent)
    assert call_metadata() == ()
