"""A mesh on a broker that the test hurts: router, gateway and a worker with the fake engine, all in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import nats
from grpc_health.v1 import health_pb2, health_pb2_grpc
from nats.aio.client import Client

from headrace.client.client import HeadraceClient
from headrace.contract.errors import HeadraceError
from headrace.gateway import app as gateway_app
from headrace.gateway import service as gateway_service
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from headrace.router import app as router_app
from headrace.router import service as router_service
from headrace.runtime.nats_state import BROKER_HEALTH
from headrace.runtime.settings import load_settings
from headrace.runtime.shutdown import Shutdown
from headrace.worker import app as worker_app
from tests.ports import free_ports

LIMIT_S = 30.0
"""For one step of a test on a loaded machine."""

GATEWAY = gateway_service.NAME
ROUTER = router_service.SERVICE

UNSERVED = "unserved"
"""A model that the router knows and no worker runs: its requests wait in the broker."""

PING_S = 0.5

QUICK = {
    "nats.reconnect_wait_s": 0.05,
    "nats.reconnect_max_wait_s": 0.5,
    "nats.ping_interval_s": PING_S,
    "nats.member_ttl_s": 2.0,
    "router.ack_wait_s": 2.0,
    "router.drain_grace_s": 2.0,
    "router.result_retry_max_wait_s": 1.0,
    "gateway.drain_grace_s": 1.0,
    "gateway.cancel_wait_s": 0.3,
    "gateway.rejoin_wait_s": 0.05,
    "gateway.rejoin_max_wait_s": 0.5,
    "worker.rejoin_wait_s": 0.05,
    "worker.rejoin_max_wait_s": 0.5,
    "worker.drain_grace_s": 1.0,
    "worker.models": "fake",
    "worker.lanes": 2,
    "worker.max_batch": 2,
}
"""Times as an operator in a hurry would set them, so that outages of a second are long ones."""


@dataclass(slots=True, kw_only=True)
class LocalMesh:
    """A mesh that runs, with a client of its gateway, and one of its broker that the test's proxies do not touch."""

    client: HeadraceClient
    nats: Client
    gateway_address: str
    router_address: str

    async def gateway_is(self, serving: bool, service: str = GATEWAY) -> None:
        """Returns when the gateway's health says so."""
        await becomes(self.gateway_address, service, serving)

    async def router_is(self, serving: bool, service: str = ROUTER) -> None:
        """Returns when the router's health says so."""
        await becomes(self.router_address, service, serving)

    async def is_sound(self, sound: bool) -> None:
        """Returns when router and gateway say of the broker that it is, or is not, as it should be."""
        await self.gateway_is(sound, BROKER_HEALTH)
        await self.router_is(sound, BROKER_HEALTH)


async def becomes(address: str, service: str, serving: bool) -> None:
    wanted = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watching = stub.Watch(health_pb2.HealthCheckRequest(service=service))
        async with asyncio.timeout(LIMIT_S):
            async for answer in watching:
                if answer.status == wanted:
                    watching.cancel()
                    return


@asynccontextmanager
async def local_mesh(
    folder: Path, broker: str, *, seen_by_test: str = "", step_s: float = 0.005, **overrides: Any
) -> AsyncIterator[LocalMesh]:
    """`broker` is the URL that the mesh uses, `seen_by_test` the one that the test does, if it is another."""
    store = ModelStore(folder / "models")
    install_fake_model(store, timing=FakeTiming(step_s=step_s))
    install_fake_model(store, UNSERVED)
    router, gateway = free_ports(2)
    settings = load_settings(
        {
            **QUICK,
            "nats.url": broker,
            "models": folder / "models",
            "router.port": router,
            "gateway.port": gateway,
            "worker.router": f"127.0.0.1:{router}",
            **overrides,
        },
        environ={},
    )
    async with AsyncExitStack() as stack:
        own = await nats.connect(
            (seen_by_test or broker).split(","),
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.1,
            error_cb=_quiet,
        )
        stack.push_async_callback(own.close)
        for part in (router_app.run, gateway_app.run, worker_app.run):
            await stack.enter_async_context(running(part, settings))
        client = await stack.enter_async_context(HeadraceClient(f"127.0.0.1:{gateway}"))
        await _lanes_run(client)
        yield LocalMesh(
            client=client,
            nats=own,
            gateway_address=f"127.0.0.1:{gateway}",
            router_address=f"127.0.0.1:{router}",
        )


@asynccontextmanager
async def running(part: Any, settings: object) -> AsyncIterator[None]:
    shutdown = Shutdown(signals=())
    work: Coroutine[Any, Any, None] = part(settings, shutdown)
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        shutdown.request("the test is over")
        async with asyncio.timeout(LIMIT_S):
            await task


async def _lanes_run(client: HeadraceClient) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                if any(model.lanes for model in await client.models()):
                    return
            except HeadraceError:
                pass
            await asyncio.sleep(0.02)  # a start has no event that a client could wait for


async def _quiet(error: Exception) -> None:
    """A server that the test stops is no news."""
