"""A real gateway on a real nats-server, and a router that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc.aio
import nats
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from nats.aio.client import Client

from headrace.client.client import HeadraceClient
from headrace.gateway.app import run
from headrace.gateway.service import NAME
from headrace.runtime.nats_layout import ensure_layout
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.settings import Settings
from headrace.runtime.shutdown import Shutdown
from headrace.v1.inference_pb2_grpc import InferenceServiceStub
from tests.gateway.acting_router import LIMIT_S, ActingRouter

if TYPE_CHECKING:
    from headrace.v1.inference_pb2_grpc import InferenceServiceAsyncStub


@dataclass(slots=True)
class RunningGateway:
    """A gateway in this process. `stop` asks for its end; `task` ends with it."""

    address: str
    shutdown: Shutdown
    task: asyncio.Task[None]

    def stop(self) -> None:
        self.shutdown.request("the test says so")


@asynccontextmanager
async def running_gateway(settings: Settings) -> AsyncIterator[RunningGateway]:
    """A gateway as its own process would run it."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    shutdown = Shutdown(signals=())
    task = asyncio.create_task(run(settings, shutdown, on_ready=ready.set_result))
    first: set[asyncio.Future[Any]] = {task, ready}
    await asyncio.wait(first, timeout=LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        await task
    try:
        yield RunningGateway(ready.result(), shutdown, task)
    finally:
        shutdown.request("the test is over")
        async with asyncio.timeout(LIMIT_S):
            await task


OVERRIDES = {
    "gateway.port": 0,
    "gateway.drain_grace_s": 1.0,
    "gateway.cancel_wait_s": 0.3,
    "gateway.rejoin_wait_s": 0.05,
    "gateway.rejoin_max_wait_s": 0.2,
    "nats.reconnect_wait_s": 0.05,
    "nats.reconnect_max_wait_s": 0.2,
}


@pytest.fixture
def settings(fresh_nats: EmbeddedNats, settings_for: Callable[..., Settings]) -> Settings:
    return settings_for(fresh_nats, **OVERRIDES)


@pytest.fixture
async def nc(fresh_nats: EmbeddedNats, settings: Settings) -> AsyncIterator[Client]:
    """The test's own connection, with everything declared on the server."""
    client = await nats.connect(
        fresh_nats.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, error_cb=_quiet
    )
    await ensure_layout(client, settings)
    yield client
    with suppress(OSError):  # of a server that the test stopped
        await client.close()


async def _quiet(error: Exception) -> None:
    """A server that the test stops is no news."""


@pytest.fixture
async def router(nc: Client) -> AsyncIterator[ActingRouter]:
    async with ActingRouter(nc) as acting:
        yield acting


@pytest.fixture
async def gateway(settings: Settings, router: ActingRouter) -> AsyncIterator[RunningGateway]:
    """A gateway that has joined the router."""
    async with running_gateway(settings) as running:
        async with asyncio.timeout(LIMIT_S):
            await router.joins.get()
        yield running


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[HeadraceClient]:
    async with HeadraceClient(gateway.address) as connected:
        yield connected


@pytest.fixture
async def channel(gateway: RunningGateway) -> AsyncIterator[grpc.aio.Channel]:
    """For what the client does not send."""
    async with grpc.aio.insecure_channel(gateway.address) as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> InferenceServiceAsyncStub:
    return InferenceServiceStub(channel)


SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def becomes(channel: grpc.aio.Channel, status: int, service: str = NAME) -> None:
    """Waits until the health of `service` is `status`."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    watching = stub.Watch(health_pb2.HealthCheckRequest(service=service))
    async with asyncio.timeout(LIMIT_S):
        async for response in watching:
            if response.status == status:
                watching.cancel()
                return
