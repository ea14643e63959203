"""A roll-out and a roll-back of the real model under load: int8, float32, int8. Nobody may notice.

The same clients ask all the while: before the change, where only int8 answers, and in the middle, where only float32
does. Their longest wait in these calm stages is what the load alone does on this machine; it stands beside the longest
one while something changes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from headrace.client.admin import AdminClient
from headrace.client.client import HeadraceClient
from headrace.contract.errors import HeadraceError
from headrace.models.manifest import MANIFEST_NAME, Manifest
from headrace.models.store import ModelStore, StoredModel
from tests.integration.processes import READY_S, Processes
from tests.prove.answers import real_model
from tests.prove.models.asking import Load, loading
from tests.prove.scheduler.load import Shape, requests

ALIAS = "chat"
INT8, FLOAT32 = "smollm2-int8", "smollm2-float32"
WORKERS = {INT8: "worker-1", FLOAT32: "worker-2"}
CLIENTS = 4
LOAD = Shape(prompts="16-64", outputs="16-48")
"""Both versions can serve it: each client asks when it has its answer, and has a lane of its own."""
SETTLED = 12
"""Answers of the new version after each change, before the next one."""
SHARE = 0.25
CALM_S = 20.0
"""How long each version answers alone, with nothing changing."""
CALM = {INT8: "int8 alone", FLOAT32: "float32 alone"}
LIMIT_S = 120.0
"""For one stage."""


class Mesh(Protocol):
    """Where versions come and go."""

    async def comes(self, model: str) -> float:
        """Has a version served; in how many seconds it was loaded."""
        ...

    async def leaves(self, model: str) -> None:
        """Has it served no more."""
        ...


async def rollout(folder: Path) -> Mapping[str, float]:
    """A worker with the new version comes, a canary, its promotion, the old worker leaves; and all the way back."""
    model = await asyncio.to_thread(real_model)
    store = folder / "models"
    await asyncio.to_thread(two_versions, model, ModelStore(store))
    names = ("router", "gateway", *WORKERS.values())
    async with (
        VersionProcesses(folder, models=store, names=names) as mesh,
        HeadraceClient(mesh.address) as client,
        AdminClient(mesh.address) as admin,
    ):
        await mesh.stop(WORKERS[FLOAT32])
        return await there_and_back(Workers(mesh, client), client, admin, model)


async def there_and_back(
    mesh: Mesh, client: HeadraceClient, admin: AdminClient, model: StoredModel
) -> Mapping[str, float]:
    """All stages, beginning where int8 alone is served; what is required and told of them."""
    work = requests(model, LOAD, count=64, seed=41)
    await admin.set_alias(ALIAS, INT8)
    async with loading(client, ALIAS, work, CLIENTS) as load:
        load.stage = CALM[INT8]
        await asyncio.sleep(CALM_S)
        load.stage = "float32 comes"
        float32_s = await mesh.comes(FLOAT32)
        load.stage = "canary"
        await admin.canary(ALIAS, FLOAT32, share=SHARE)
        await load.answers(FLOAT32, 3, LIMIT_S)
        load.stage = "promotion"
        await admin.promote(ALIAS)
        await load.answers(FLOAT32, SETTLED, LIMIT_S)
        load.stage = "int8 leaves"
        await mesh.leaves(INT8)
        await load.answers(FLOAT32, SETTLED, LIMIT_S)
        load.stage = CALM[FLOAT32]
        await asyncio.sleep(CALM_S)
        load.stage = "int8 comes"
        int8_s = await mesh.comes(INT8)
        load.stage = "roll-back"
        await admin.roll_back(ALIAS)
        await load.answers(INT8, SETTLED, LIMIT_S)
        load.stage = "float32 leaves"
        await mesh.leaves(FLOAT32)
        await load.answers(INT8, SETTLED, LIMIT_S)
    await tell(load, admin)
    return measures(load, {INT8: int8_s, FLOAT32: float32_s})


def measures(load: Load, load_s: Mapping[str, float]) -> Mapping[str, float]:
    """What is required and told of it."""
    stages = {wait.stage for wait in load.waits}
    stall_s = load.longest(stages - {*CALM.values()}).seconds
    calm_s = load.longest(CALM.values()).seconds
    shortest_s = min(load_s.values())
    return {
        "failed": float(len(load.failed)),
        "stall_to_load": stall_s / shortest_s,
        "stall_s": stall_s,
        "calm_stall_s": calm_s,
        "added_to_load": (stall_s - calm_s) / shortest_s,
        "load_float32_s": load_s[FLOAT32],
        "load_int8_s": load_s[INT8],
        "answers": float(load.answered.total()),
        "moved": float(load.moved),
        "by_others": float(load.answered.total() - load.answered[INT8] - load.answered[FLOAT32]),
    }


async def tell(load: Load, admin: AdminClient) -> None:
    """Prints the longest wait of each stage, and what the mesh says of the longest of all."""
    stages = dict.fromkeys(wait.stage for wait in load.waits)
    for stage in stages:
        those = sorted(wait.seconds for wait in load.waits if wait.stage == stage)
        late = those[round(0.99 * (len(those) - 1))]
        print(f"  {stage}: longest wait {load.longest([stage])}; 99 % below {late:.2f} s", flush=True)
    longest = load.longest(stages)
    try:
        for cause in (await admin.trace(longest.request_id)).causes:
            print(f"  the longest: {cause}", flush=True)
    except HeadraceError as error:  # the gateway remembers the recent ones
        print(f"  of the longest is nothing known any more: {error}", flush=True)
    for problem in load.failed:
        print(f"  {problem}", flush=True)


class VersionProcesses(Processes):
    """A mesh with a worker for each version, each computing as its name says."""

    async def start(self, name: str, **environment: str) -> None:
        for model, worker in WORKERS.items():
            if name == worker:
                environment = {
                    "HEADRACE_WORKER_MODELS": model,
                    "HEADRACE_WORKER_NAME": model,
                    "HEADRACE_WORKER_COMPUTE_TYPE": model.rpartition("-")[2],
                    # One for each client: what they wait for is the change, and not one another.
                    "HEADRACE_WORKER_LANES": str(CLIENTS),
                    "HEADRACE_WORKER_MAX_BATCH": "1",
                    **environment,
                }
        await super().start(name, **environment)


@dataclass(frozen=True, slots=True)
class Workers:
    """Versions come and go with their workers."""

    mesh: Processes
    client: HeadraceClient

    async def comes(self, model: str) -> float:
        began_s = time.monotonic()
        await self.mesh.start(WORKERS[model])
        async with asyncio.timeout(READY_S):
            while not any(one.name == model and one.lanes for one in await self.client.models()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # nothing tells of a worker that joins
        return time.monotonic() - began_s

    async def leaves(self, model: str) -> None:
        await self.mesh.stop(WORKERS[model])


def two_versions(model: StoredModel, store: ModelStore) -> None:
    """The model under two names. Its weights are those of one file: the engine makes float32 of them as it loads."""
    for name in WORKERS:

        def build(folder: Path, name: str = name) -> Manifest:
            for path in model.path.iterdir():
                if path.name != MANIFEST_NAME:
                    os.symlink(path, folder / path.name)
            return dataclasses.replace(model.manifest, name=name)

        store.install(name, build)
