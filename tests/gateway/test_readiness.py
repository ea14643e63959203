"""Whether the gateway says that it serves, and what it does when the broker or its own end comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from nats.aio.client import Client

from headrace.client.client import HeadraceClient
from headrace.contract.errors import Unavailable
from headrace.contract.values import Outcome
from headrace.gateway.service import NAME
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.settings import NatsSettings, Settings
from tests.gateway.acting_router import LIMIT_S, ActingRouter
from tests.gateway.conftest import NOT_SERVING, SERVING, RunningGateway, becomes, running_gateway

pytestmark = pytest.mark.integration


async def test_serves_while_a_router_is_connected(nc: Client, settings: Settings) -> None:
    """Not before the first, and not after the last; for the service and for the server as a whole."""
    async with running_gateway(settings) as gateway, grpc.aio.insecure_channel(gateway.address) as channel:
        await becomes(channel, NOT_SERVING)
        await becomes(channel, NOT_SERVING, "")
        async with ActingRouter(nc):
            await becomes(channel, SERVING)
            await becomes(channel, SERVING, "")
        await becomes(channel, NOT_SERVING)


async def test_the_methods_can_be_discovered(channel: grpc.aio.Channel) -> None:
    """By reflection, as grpcurl does it."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
    request: Any = reflection_pb2.ServerReflectionRequest
    asked = request(list_services="")
    async for response in stub.ServerReflectionInfo(iter([asked])):
        names = {service.name for service in response.list_services_response.service}
        break
    assert NAME in names


class TestBrokerThatRestarts:
    """A broker on a port of its own, so that it can come back there."""

    @pytest.fixture
    def nats_settings(self, tmp_path: Path) -> NatsSettings:
        first = EmbeddedNats(NatsSettings(port=0, store_dir=tmp_path / "nats"))
        with first:
            port = int(first.url.rpartition(":")[2])
        return NatsSettings(port=port, store_dir=tmp_path / "nats")

    @pytest.fixture
    def fresh_nats(self, nats_settings: NatsSettings) -> object:
        server = EmbeddedNats(nats_settings)
        server.start()
        yield server
        server.stop()

    async def test_without_the_broker_nothing_is_accepted_and_running_streams_go_on(
        self,
        fresh_nats: EmbeddedNats,
        channel: grpc.aio.Channel,
        client: HeadraceClient,
        router: ActingRouter,
    ) -> None:
        """Refused at once, not kept for later; after the broker's return everything works as before."""
        await becomes(channel, SERVING)
        async with aclosing(client.generate(model="tiny", prompt="p")) as events:
            await anext(events)
            taken = await router.take()
            await asyncio.to_thread(fresh_nats.stop)
            await becomes(channel, NOT_SERVING)
            for calling in (
                client.complete(model="tiny", prompt="p"),
                client.submit(model="tiny", prompt="p"),
                client.result(taken.id),
                client.cancel(taken.id),
            ):
                async with asyncio.timeout(2):
                    with pytest.raises(Unavailable, match="NATS: the connection is down"):
                        await calling
            router.tokens(taken.id, 0, "still")
            await anext(events)
            await asyncio.to_thread(fresh_nats.start)
            await becomes(channel, SERVING)
            await router.finish(taken, "still")
            assert isinstance(await anext(events), Outcome)
        answering = asyncio.create_task(router.answer("again"))
        assert (await client.complete(model="tiny", prompt="p")).text == "again"
        await answering


async def test_a_drain_lets_streams_end_and_takes_no_new_requests(
    gateway: RunningGateway, channel: grpc.aio.Channel, client: HeadraceClient, router: ActingRouter
) -> None:
    """Health says so first; a new request is told why; the running one gets its last token."""
    await becomes(channel, SERVING)
    async with aclosing(client.generate(model="tiny", prompt="p")) as events:
        await anext(events)
        taken = await router.take()
        gateway.stop()
        await becomes(channel, NOT_SERVING)
        with pytest.raises(Unavailable, match="stopping and takes no new requests"):
            await client.complete(model="tiny", prompt="p")
        router.tokens(taken.id, 0, "end")
        await router.finish(taken, "end")
        assert [type(event) async for event in events][-1] is Outcome
    async with asyncio.timeout(LIMIT_S):
        await gateway.task


async def test_streams_that_outlast_the_drain_are_cut_and_their_work_goes_on(
    gateway: RunningGateway, router: ActingRouter
) -> None:
    """The gateway ends in bounded time; the client is told to attach to its request at another one, and it is kept."""
    async with (
        HeadraceClient(gateway.address, reattach=False) as client,
        aclosing(client.generate(model="tiny", prompt="p")) as events,
    ):
        await anext(events)
        taken = await router.take()
        gateway.stop()
        with pytest.raises(Unavailable, match=f"stopping; attach to {taken.id} at another"):
            await anext(events)
    async with asyncio.timeout(LIMIT_S):
        await gateway.task
    assert router.cancels.empty(), "a drain takes from nobody what a crash would leave him"


async def test_an_end_before_the_broker_is_there_is_quick(settings_for: Callable[..., Settings]) -> None:
    """A gateway that waits for NATS can be stopped."""
    from headrace.gateway.app import run
    from headrace.runtime.settings import load_settings
    from headrace.runtime.shutdown import Shutdown

    shutdown = Shutdown(signals=())
    settings = load_settings({"nats.url": "nats://127.0.0.1:1", "gateway.port": 0}, environ={})
    running = asyncio.create_task(run(settings, shutdown))
    await asyncio.sleep(0.1)
    shutdown.request("test")
    async with asyncio.timeout(LIMIT_S):
        await running
