"""The same roll-out and roll-back where both versions come onto one worker, through the desired state: while one
answers, the other is fetched, verified, loaded and measured in the same process, and both share its lanes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nats
from nats.aio.client import Client

from headrace.client.admin import AdminClient
from headrace.client.client import HeadraceClient
from headrace.contract.deployments import ModelState
from headrace.models.bucket import FilesBucket
from headrace.models.desired import Terms, deploy, places, undeploy
from headrace.models.push import push
from headrace.models.store import ModelStore
from headrace.runtime.nats_layout import ensure_layout
from headrace.runtime.settings import load_settings
from tests.integration.processes import Processes
from tests.prove.answers import real_model
from tests.prove.models.rollout import CLIENTS, FLOAT32, INT8, LIMIT_S, there_and_back, two_versions

WORKER = "worker"


async def deployed(folder: Path) -> Mapping[str, float]:
    """The operator's store has both versions; router and worker begin with none."""
    model = await asyncio.to_thread(real_model)
    store = ModelStore(folder / "operator")
    await asyncio.to_thread(two_versions, model, store)
    mesh = OneWorker(
        folder,
        models=folder / "router",
        environment={
            "HEADRACE_WORKER_NAME": WORKER,
            "HEADRACE_WORKER_LANES": str(CLIENTS),
            "HEADRACE_WORKER_MAX_BATCH": "1",
            "HEADRACE_STORE_MIN_FREE_BYTES": "0",
        },
    )
    mesh.operator = store
    async with mesh, HeadraceClient(mesh.address) as client, AdminClient(mesh.address) as admin:
        nc = await nats.connect(mesh.nats_url)
        try:
            return await there_and_back(Deployments(mesh, nc, store), client, admin, model)
        finally:
            await nc.close()


class OneWorker(Processes):
    """Whose first model is deployed to it."""

    operator: ModelStore

    async def start(self, name: str, **environment: str) -> None:
        if name == WORKER:
            environment = {"HEADRACE_MODELS": str(self._folder / WORKER), **environment}
        await super().start(name, **environment)

    async def ready(self) -> None:
        nc = await nats.connect(self.nats_url)
        try:
            await ensure_layout(nc, load_settings({"nats.url": self.nats_url}, environ={}))
            for reference in (FLOAT32, INT8):
                await push(FilesBucket(nc), self.operator.open(reference))
            await Deployments(self, nc, self.operator).comes(INT8)
        finally:
            await nc.close()
        await super().ready()


@dataclass(frozen=True, slots=True)
class Deployments:
    """Versions come and go by deployment, each computing as its name says."""

    mesh: Processes
    nats: Client
    store: ModelStore

    async def comes(self, model: str) -> float:
        """The seconds are those of loading alone, as the worker's log has them: verified and measured, not fetched."""
        await deploy(self.nats, self.store, model, Terms(compute_type=model.rpartition("-")[2]))
        async with asyncio.timeout(LIMIT_S), HeadraceClient(self.mesh.address) as client:
            while not await self._is_ready(model):  # noqa: ASYNC110 — as an operator looks
                await asyncio.sleep(0.05)
            while not any(one.name == model and one.lanes for one in await client.models()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # the router tells its gateways a moment later
        lines = [json.loads(line) for line in self.mesh.log(WORKER).splitlines() if '"model.loaded"' in line]
        return float([line["seconds"] for line in lines if line["model"].startswith(f"{model}@")][-1])

    async def _is_ready(self, model: str) -> bool:
        return any(p.reference == model and p.state is ModelState.READY for p in await places(self.nats))

    async def leaves(self, model: str) -> None:
        await undeploy(self.nats, model)
        async with asyncio.timeout(LIMIT_S):
            while any(p.reference == model for p in await places(self.nats)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
