"""A mesh in this process whose models, all of them fake, come and go: a worker for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client

from headrace.client.admin import AdminClient
from headrace.client.client import HeadraceClient
from headrace.contract.errors import HeadraceError
from headrace.contract.rollout import ShadowCounts
from headrace.contract.subjects import RESULTS_STREAM
from headrace.gateway import app as gateway_app
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from headrace.router import app as router_app
from headrace.runtime.settings import load_settings
from headrace.worker import app as worker_app
from tests.integration.local_mesh import LIMIT_S, QUICK, running
from tests.nats_servers import NatsServer
from tests.ports import free_ports

STEP_S = 0.005


@dataclass(slots=True, kw_only=True)
class VersionsMesh:
    """The mesh. `OLD`, `NEW` and `OTHER` are in the store; who runs them is the test's to say."""

    client: HeadraceClient
    admin: AdminClient
    nats: Client
    """A connection of the test's own."""
    settings: dict[str, Any]
    workers: dict[str, AbstractAsyncContextManager[None]] = field(default_factory=dict)

    async def start(self, *models: str) -> None:
        """A worker for each; returns when all are served."""
        for model in models:
            settings = load_settings(
                {**self.settings, "worker.models": model, "worker.name": f"w-{model}"}, environ={}
            )
            self.workers[model] = worker = running(worker_app.run, settings)
            await worker.__aenter__()
        await self.serves(*models)

    async def stop(self, *models: str) -> None:
        """Drains their workers."""
        for model in models:
            await self.workers.pop(model).__aexit__(None, None, None)

    async def results(self) -> int:
        """How many outcomes are kept."""
        return (await self.nats.jetstream().stream_info(RESULTS_STREAM)).state.messages

    async def shadow_when(self, enough: Callable[[ShadowCounts], bool]) -> ShadowCounts:
        """What was counted of the only shadow of the only alias, once it is enough."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                (state,) = await self.admin.aliases()
                for found in state.counts.shadows:
                    if enough(found):
                        return found

    async def serves(self, *models: str) -> None:
        """Returns when the gateway lists these with lanes."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                try:
                    lanes = {model.name: model.lanes for model in await self.client.models()}
                except HeadraceError:
                    lanes = {}
                if all(lanes.get(model) for model in models):
                    return
                await asyncio.sleep(0.02)  # nothing tells of a worker that joins


OLD, NEW, OTHER = "old", "new", "other"


@asynccontextmanager
async def versions_mesh(
    folder: Path, overrides: Mapping[str, Any] | None = None
) -> AsyncIterator[VersionsMesh]:
    """Router and gateway on a broker of their own, and no worker yet."""
    store = ModelStore(folder / "models")
    for model in (OLD, NEW, OTHER):
        install_fake_model(store, model, timing=FakeTiming(step_s=STEP_S))
    router, gateway = free_ports(2)
    with NatsServer(folder / "nats") as broker:
        settings = {
            **QUICK,
            "nats.url": broker.url,
            "models": folder / "models",
            "router.port": router,
            "gateway.port": gateway,
            "gateway.admin_wait_s": 0.2,
            "worker.router": f"127.0.0.1:{router}",
            **(overrides or {}),
        }
        async with AsyncExitStack() as stack:
            for part in (router_app.run, gateway_app.run):
                await stack.enter_async_context(running(part, load_settings(settings, environ={})))
            own = await nats.connect(broker.url)
            stack.push_async_callback(own.close)
            address = f"127.0.0.1:{gateway}"
            mesh = VersionsMesh(
                client=await stack.enter_async_context(HeadraceClient(address)),
                admin=await stack.enter_async_context(AdminClient(address)),
                nats=own,
                settings=settings,
            )
            try:
                yield mesh
            finally:
                await mesh.stop(*list(mesh.workers))
