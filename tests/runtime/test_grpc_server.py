"""The gRPC server: its address, health, reflection, limits, keepalive, and how it stops."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry.trace import NoOpTracer

from headrace.contract.errors import StartError
from headrace.runtime.grpc_channel import open_channel
from headrace.runtime.grpc_server import GrpcServer, PortInUse
from headrace.runtime.keepalive import Keepalive
from tests.runtime.grpc_services import Servicer, bidirectional, call_bidirectional, call_unary, unary

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def echo(request: bytes, context: Any) -> bytes:
    return request


def server(
    register: Servicer | None = None, *, host: str = "127.0.0.1", port: int = 0, **options: Any
) -> GrpcServer:
    return GrpcServer(
        host=host,
        port=port,
        setting="HEADRACE_TEST_PORT",
        register=register or unary("Echo", echo),
        tracer=NoOpTracer(),
        **options,
    )


def echo_of(channel: grpc.aio.Channel) -> Any:
    return call_unary(channel, "/test.Service/Echo")


async def check(channel: grpc.aio.Channel, service: str = "") -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=service))).status)


async def test_serves_on_any_port() -> None:
    """Port 0 takes a free one, and the address says which."""
    async with server() as running, open_channel(running.address) as channel:
        assert running.port > 0
        assert running.address == f"127.0.0.1:{running.port}"
        assert await echo_of(channel)(b"hello") == b"hello"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
async def test_second_server_on_one_port_is_refused(host: str) -> None:
    """Two servers never share a port, and the error names address and setting; gRPC by default would share it."""
    async with server() as first:
        with pytest.raises(PortInUse, match=rf"{host}:{first.port} is in use.*HEADRACE_TEST_PORT") as caught:
            async with server(host=host, port=first.port):
                pass
        assert (caught.value.host, caught.value.port, caught.value.setting) == (
            host,
            first.port,
            "HEADRACE_TEST_PORT",
        )


async def test_port_of_a_foreign_server_is_refused() -> None:
    """A port that another kind of server holds is refused too."""
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(PortInUse):
        async with server(port=other.getsockname()[1]):
            pass


async def test_port_lost_between_check_and_bind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that another server takes between the check and the bind gives the same error: gRPC does not share it."""
    monkeypatch.setattr("headrace.runtime.grpc_server._check_address", lambda host, port, setting: host)
    async with server() as first:
        with pytest.raises(PortInUse):
            async with server(port=first.port):
                pass


async def test_port_is_free_again_after_the_stop() -> None:
    """A restart finds its port again at once."""
    async with server() as first, open_channel(first.address) as channel:
        await echo_of(channel)(b"")
        port = first.port
    async with server(port=port) as second:
        assert second.port == port


@pytest.mark.parametrize("host", ["198.51.100.7", "no-such-host.invalid"])
async def test_host_that_is_not_ours(host: str) -> None:
    """A host that is not an address of this machine is told as that, not as a port in use."""
    with pytest.raises(StartError) as caught:
        async with server(host=host):
            pass
    assert not isinstance(caught.value, PortInUse)
    assert host in str(caught.value)
    assert "HEADRACE_TEST_PORT" in str(caught.value)


async def test_health() -> None:
    """The process serves from the start; a service does when it is said to, and nothing does once it stops."""
    async with server(services=["a.S"]) as running, open_channel(running.address) as channel:
        assert await check(channel) == SERVING
        assert await check(channel, "a.S") == NOT_SERVING
        await running.set_serving("a.S", serving=True)
        assert await check(channel, "a.S") == SERVING
        await running.set_serving("a.S", serving=False)
        assert await check(channel, "a.S") == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(channel, "b.S")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_health_watchers_see_the_stop() -> None:
    """Who watches is told NOT_SERVING before the server goes."""
    async with server() as running, open_channel(running.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=""))
        assert (await watch.read()).status == SERVING
        stopping = asyncio.create_task(running.stop(grace_s=0.2))
        assert (await watch.read()).status == NOT_SERVING
        await stopping


async def test_reflection_lists_the_services() -> None:
    """Reflection knows the services that were named, and health."""
    async with (
        server(services=["headrace.v1.InferenceService"]) as running,
        open_channel(running.address) as channel,
    ):
        untyped: Any = channel
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(untyped)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        answer = await call.read()
    listed = {service.name for service in answer.list_services_response.service}
    assert {"headrace.v1.InferenceService", "grpc.health.v1.Health"} <= listed


async def test_message_over_the_limit_is_refused() -> None:
    """A message over the limit is refused with a status, and the connection goes on."""
    async with server(max_message_bytes=1000) as running, open_channel(running.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo_of(channel)(b"x" * 2000)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await echo_of(channel)(b"x" * 900)


async def test_calls_over_the_limit_are_refused() -> None:
    """Beyond the limit of concurrent calls a new one is refused at once, not queued."""
    holding, release = asyncio.Event(), asyncio.Event()

    async def hold(request: bytes, context: Any) -> bytes:
        holding.set()
        await release.wait()
        return request

    async with (
        server(unary("Hold", hold), max_concurrent_calls=1) as running,
        open_channel(running.address) as channel,
    ):
        method = call_unary(channel, "/test.Service/Hold")
        first = asyncio.ensure_future(method(b"1"))
        await holding.wait()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(b"2", timeout=5)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        release.set()
        assert await first == b"1"


async def test_stop_lets_a_running_call_end() -> None:
    """A call that runs when the server is asked to stop is answered within the grace; the stop does not wait longer."""
    holding, release = asyncio.Event(), asyncio.Event()

    async def hold(request: bytes, context: Any) -> bytes:
        holding.set()
        await release.wait()
        return request

    async with server(unary("Hold", hold)) as running, open_channel(running.address) as channel:
        call = asyncio.ensure_future(call_unary(channel, "/test.Service/Hold")(b"1"))
        await holding.wait()
        began = time.monotonic()
        stopping = asyncio.create_task(running.stop(grace_s=30))
        release.set()
        assert await call == b"1"
        await stopping
        assert time.monotonic() - began < 5


async def test_stop_cancels_what_outlasts_the_grace() -> None:
    """A call that does not end within the grace is cancelled, and a second stop is nothing."""
    holding, cancelled = asyncio.Event(), asyncio.Event()

    async def hold(request: bytes, context: Any) -> bytes:
        holding.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    async with server(unary("Hold", hold)) as running, open_channel(running.address) as channel:
        call = asyncio.ensure_future(call_unary(channel, "/test.Service/Hold")(b"1"))
        await holding.wait()
        await running.stop(grace_s=0.1)
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        async with asyncio.timeout(5):
            await cancelled.wait()
        await running.stop()


async def _silent_stream(seconds: float, *, client: Keepalive, host: Keepalive) -> str:
    """What ends a stream without messages, between ends with these settings, within `seconds`; "" if nothing does."""

    async def silent(requests: Any, context: Any) -> None:
        await context.write(b"begun")
        async for _ in requests:
            pass

    async def nothing() -> Any:
        await asyncio.Event().wait()
        yield b""

    async with (
        server(bidirectional("Work", silent), keepalive=host, grace_s=0) as running,
        open_channel(running.address, keepalive=client) as channel,
    ):
        call = call_bidirectional(channel, "/test.Service/Work")(nothing())
        assert await call.read() == b"begun"
        try:
            async with asyncio.timeout(seconds):
                await call.read()
        except TimeoutError:
            return ""
        except grpc.aio.AioRpcError as error:
            return error.details() or ""
        return "the end of the stream"


async def test_no_client_pings_too_often() -> None:
    """A silent stream lives on whatever the two ends' values are, where gRPC's own server would cut it off."""
    quick, slow = Keepalive(time_s=0.1, timeout_s=2), Keepalive(time_s=60, timeout_s=2)
    ends = await asyncio.gather(
        _silent_stream(6, client=quick, host=quick),
        _silent_stream(6, client=quick, host=slow),
        _silent_stream(6, client=slow, host=quick),
    )
    assert set(ends) == {""}


async def test_silent_server_is_noticed() -> None:
    """A server that vanished without closing its connection is noticed after the two keepalive times."""
    quick = Keepalive(time_s=0.1, timeout_s=0.2)
    async with (
        server() as running,
        _Relay(running.port) as relay,
        open_channel(f"127.0.0.1:{relay.port}", keepalive=quick) as channel,
    ):
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=""))
        await watch.read()
        relay.silent = True
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(5):
                await watch.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_silent_client_is_noticed() -> None:
    """A client that vanished without closing its connection has its calls cancelled after the two keepalive times."""
    holding, cancelled = asyncio.Event(), asyncio.Event()

    async def hold(request: bytes, context: Any) -> bytes:
        holding.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    async with (
        server(unary("Hold", hold), keepalive=Keepalive(time_s=0.1, timeout_s=0.2), grace_s=0) as running,
        _Relay(running.port) as relay,
        open_channel(f"127.0.0.1:{relay.port}") as channel,
    ):
        call = asyncio.ensure_future(call_unary(channel, "/test.Service/Hold")(b""))
        await holding.wait()
        relay.silent = True
        async with asyncio.timeout(5):
            await cancelled.wait()
        call.cancel()


async def test_channel_reconnects() -> None:
    """A client is through again when its server has returned."""
    async with server() as first:
        port = first.port
        channel = open_channel(first.address)
        await echo_of(channel)(b"")
    async with channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await echo_of(channel)(b"")
        async with server(port=port):
            assert await echo_of(channel)(b"back", timeout=10, wait_for_ready=True) == b"back"


async def test_channel_tries_often() -> None:
    """A client whose server is away tries again soon: six times in four seconds, where gRPC by itself tries three."""
    tried: asyncio.Queue[None] = asyncio.Queue()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tried.put_nowait(None)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as away:
        port = away.sockets[0].getsockname()[1]
        async with open_channel(f"127.0.0.1:{port}") as channel:
            call = asyncio.ensure_future(echo_of(channel)(b"", wait_for_ready=True))
            async with asyncio.timeout(4):
                for _ in range(6):
                    await tried.get()
            call.cancel()


class _Relay:
    """Passes bytes on between a client and a port, until it falls silent."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.silent = False
        self.port = 0

    async def __aenter__(self) -> _Relay:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self._tasks.add(asyncio.create_task(self._pump(source, sink)))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                if not self.silent:
                    sink.write(data)
        finally:
            sink.close()

    async def __aexit__(self, *exception: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
