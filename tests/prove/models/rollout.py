"""A roll-out and a roll-back of the real model under load: int8, float32, int8. Nobody may notice."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from headrace.bench.driver import ToSend
from headrace.client.admin import AdminClient
from headrace.client.client import HeadraceClient
from headrace.contract.errors import HeadraceError
from headrace.contract.values import Outcome, OutcomeKind, TokenChunk
from headrace.models.manifest import MANIFEST_NAME, Manifest
from headrace.models.store import ModelStore, StoredModel
from tests.integration.processes import READY_S, Processes
from tests.prove.answers import real_model
from tests.prove.scheduler.load import Shape, requests

ALIAS = "chat"
INT8, FLOAT32 = "smollm2-int8", "smollm2-float32"
WORKERS = {INT8: "worker-1", FLOAT32: "worker-2"}
CLIENTS = 4
LOAD = Shape(prompts="16-64", outputs="16-48")
SETTLED = 12
"""Requests that each stage answers before the next one begins."""
SHARE = 0.25
CALM = "before"
LIMIT_S = 120.0
"""For one stage."""


@dataclass(slots=True)
class Load:
    """Clients that ask one request after another. Writer: its own tasks."""

    client: HeadraceClient
    pool: Iterator[ToSend]
    answered: Counter[str] = field(default_factory=Counter)
    """By the version that answered."""
    failed: list[str] = field(default_factory=list)
    moved: int = 0
    """Answers that went on at another version than they began at."""
    stage: str = ""
    """What is done to the mesh meanwhile."""
    stalls_s: dict[str, float] = field(default_factory=dict)
    """By stage in which it ended: the longest that a client waited for its first or its next token."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask_on(self) -> None:
        for request in self.pool:
            try:
                await self._ask(request)
            except HeadraceError as error:
                self.failed.append(str(error))
            self.changed.set()

    async def _ask(self, request: ToSend) -> None:
        at_s, tokens = time.monotonic(), 0
        events = self.client.generate(
            model=ALIAS, prompt=request.prompt, max_tokens=request.output_tokens, ignore_end=True
        )
        async with aclosing(events):
            async for event in events:
                now_s = time.monotonic()
                if isinstance(event, TokenChunk):
                    self.stalls_s[self.stage] = max(self.stalls_s.get(self.stage, 0.0), now_s - at_s)
                    at_s = now_s
                    assert event.first_index == tokens, "no gap and no repeat"
                    tokens += len(event.token_ids)
                elif isinstance(event, Outcome):
                    whole = event.kind is OutcomeKind.COMPLETED and tokens == request.output_tokens
                    if not whole:
                        self.failed.append(f"{event.kind.value} after {tokens} tokens")
                    self.answered[event.model] += 1
                    self.moved += bool(event.earlier_models)

    async def answers(self, model: str, count: int = SETTLED) -> None:
        """Returns when that version has answered so many more."""
        wanted = self.answered[model] + count
        async with asyncio.timeout(LIMIT_S):
            while self.answered[model] < wanted:
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def loading(client: HeadraceClient, work: Sequence[ToSend]) -> AsyncIterator[Load]:
    """Keeps CLIENTS of them asking while the block lasts; what they were at ends."""
    stop = asyncio.Event()
    pool = itertools.takewhile(lambda _: not stop.is_set(), itertools.cycle(work))
    load = Load(client, pool)
    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(load.ask_on())
        try:
            yield load
        finally:
            stop.set()


async def rollout(folder: Path) -> Mapping[str, float]:
    """A worker with the new version comes, a canary, its promotion, the old worker leaves; and all the way back."""
    model = await asyncio.to_thread(real_model)
    store = folder / "models"
    await asyncio.to_thread(_two_versions, model, ModelStore(store))
    work = requests(model, LOAD, count=64, seed=41)
    names = ("router", "gateway", *WORKERS.values())
    async with (
        VersionProcesses(folder, models=store, names=names) as mesh,
        HeadraceClient(mesh.address) as client,
        AdminClient(mesh.address) as admin,
    ):
        await mesh.stop(WORKERS[FLOAT32])
        await admin.set_alias(ALIAS, INT8)
        async with loading(client, work) as load:
            load.stage = CALM
            await load.answers(INT8)
            load.stage = "float32 comes"
            float32_s = await _comes(mesh, client, FLOAT32)
            load.stage = "canary"
            await admin.canary(ALIAS, FLOAT32, share=SHARE)
            await load.answers(FLOAT32, 3)
            load.stage = "promotion"
            await admin.promote(ALIAS)
            await load.answers(FLOAT32)
            load.stage = "int8 leaves"
            await mesh.stop(WORKERS[INT8])
            await load.answers(FLOAT32)
            load.stage = "int8 comes"
            int8_s = await _comes(mesh, client, INT8)
            load.stage = "roll-back"
            await admin.roll_back(ALIAS)
            await load.answers(INT8)
            load.stage = "float32 leaves"
            await mesh.stop(WORKERS[FLOAT32])
            await load.answers(INT8)
    for stage, seconds in load.stalls_s.items():
        print(f"  {stage}: longest wait {seconds:.2f} s", flush=True)
    calm_s = load.stalls_s.pop(CALM)
    stall_s = max(load.stalls_s.values())
    for problem in load.failed:
        print(f"  {problem}", flush=True)
    return {
        "failed": float(len(load.failed)),
        "stall_to_load": stall_s / min(float32_s, int8_s),
        "stall_s": stall_s,
        "calm_stall_s": calm_s,
        "load_float32_s": float32_s,
        "load_int8_s": int8_s,
        "answers": float(load.answered.total()),
        "moved": float(load.moved),
        "by_others": float(load.answered.total() - load.answered[INT8] - load.answered[FLOAT32]),
    }


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


async def _comes(mesh: Processes, client: HeadraceClient, model: str) -> float:
    """Starts the worker of a version; seconds until it is served."""
    began_s = time.monotonic()
    await mesh.start(WORKERS[model])
    async with asyncio.timeout(READY_S):
        while not any(one.name == model and one.lanes for one in await client.models()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # nothing tells of a worker that joins
    return time.monotonic() - began_s


def _two_versions(model: StoredModel, store: ModelStore) -> None:
    """The model under two names. Its weights are those of one file: the engine makes float32 of them as it loads."""
    for name in WORKERS:

        def build(folder: Path, name: str = name) -> Manifest:
            for path in model.path.iterdir():
                if path.name != MANIFEST_NAME:
                    os.symlink(path, folder / path.name)
            return dataclasses.replace(model.manifest, name=name)

        store.install(name, build)
