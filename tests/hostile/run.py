"""One run: a mesh, so many hostile items of a seed, good requests between them, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from headrace.client.client import HeadraceClient
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from headrace.runtime.nats_client import NatsClient
from tests.hostile.accounts import Accounts, Announced, read_accounts
from tests.hostile.good import Good
from tests.hostile.mesh import NATS, Mesh
from tests.hostile.sender import Happened, Sender
from tests.hostile.strange import SECRET

GOOD_EVERY = 50
"""Hostile items between two good requests."""
MEASURE_FROM = 0.2
"""The part of a run after which buffers, pools and caches have their sizes."""
MOST_GROWTH_MIB = 64.0
"""That a process may grow from there to the end: what it keeps is bounded by its settings, not by what was thrown."""
MOST_FILES = 30
"""Open files and connections that a process may have more at the end than it began with."""

ENVIRONMENT = {"HEADRACE_WORKER_LANES": "4", "HEADRACE_WORKER_MAX_BATCH": "8"}


@dataclass(slots=True)
class Findings:
    """What a run has shown."""

    happened: Happened
    accounts: Accounts
    good: int
    wall_s: float
    memory_mib: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """By process: at the beginning, after a fifth, and at the end."""
    faults: list[str] = field(default_factory=list)


async def run(
    folder: Path, *, seed: int, numbers: Iterable[int], say: Callable[[str], None] = lambda line: None
) -> Findings:
    """Throws the items of `seed` with these numbers. `say` is told how far it is."""
    install_fake_model(ModelStore(folder / "models"), timing=FakeTiming(step_s=0.0))
    async with AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(
            Mesh(folder, models=folder / "models", environment=ENVIRONMENT)
        )
        nc = NatsClient()
        await nc.connect(mesh.nats_url)
        stack.push_async_callback(nc.close)
        announced = Announced()
        await announced.listen(nc)
        client = await stack.enter_async_context(HeadraceClient(mesh.address(mesh.gateways[0])))
        good = Good(client, nc)
        await good.learn()
        return await _throw_all(mesh, nc, announced, good, seed, list(numbers), say)


async def _throw_all(
    mesh: Mesh,
    nc: NatsClient,
    announced: Announced,
    good: Good,
    seed: int,
    numbers: list[int],
    say: Callable[[str], None],
) -> Findings:
    names = (NATS, *mesh.routers, *mesh.gateways, *mesh.workers)
    files = {name: mesh.files(name) for name in names}
    sizes = [{name: mesh.memory_mib(name) for name in names}]
    began_s = time.monotonic()
    async with Sender(mesh, seed) as sender:
        for count, number in enumerate(numbers):
            await sender.throw(number)
            if count == int(MEASURE_FROM * len(numbers)):
                sizes.append({name: mesh.memory_mib(name) for name in names})
            if mesh.ended():
                say(f"a process has ended by item {number}: {mesh.ended()}")
                break
            if count % GOOD_EVERY == GOOD_EVERY - 1:
                await good.ask(count // GOOD_EVERY)
                say(f"{count + 1} of {len(numbers)} in {time.monotonic() - began_s:.0f} s")
        await sender.drained()
        happened = sender.happened
    await good.ask(0)
    await good.ask(1)
    accounts = await read_accounts(nc.jetstream())
    sizes.append({name: mesh.memory_mib(name) for name in names})
    findings = Findings(
        happened=happened,
        accounts=accounts,
        good=good.answered,
        wall_s=time.monotonic() - began_s,
        memory_mib={
            name: (sizes[0][name], sizes[min(1, len(sizes) - 1)][name], sizes[-1][name]) for name in names
        },
    )
    findings.faults = [
        *happened.faults,
        *good.faults,
        *(f"{name} ended with exit code {code}" for name, code in mesh.ended().items()),
        *_unanswered(happened, accounts, announced),
        *(
            f"{name} grew by {last - early:.0f} MiB"
            for name, (_, early, last) in findings.memory_mib.items()
            if name != NATS and last - early > MOST_GROWTH_MIB  # the server keeps of its files what it likes
        ),
        *await _open_files(mesh, files),
        *_said_in_logs(mesh),
    ]
    return findings


def _unanswered(happened: Happened, accounts: Accounts, announced: Announced) -> list[str]:
    """Nothing vanishes: every message and every accepted request is an outcome or a dead letter."""
    faults = [f"{accounts.left} messages are still queued"] if accounts.left else []
    for place, (number, ids) in happened.stored.items():
        if place in accounts.dead or not accounts.outcomes.isdisjoint({*ids, *announced.ids(place)}):
            continue
        faults.append(f"item {number}: its message (place {place}) is neither an outcome nor a dead letter")
    for request_id, number in happened.accepted.items():
        if request_id not in accounts.outcomes:
            faults.append(f"item {number}: its accepted request {request_id} has no outcome")
    return faults


async def _open_files(mesh: Mesh, before: dict[str, int]) -> list[str]:
    """Connections that were broken off are closed within moments."""
    more: dict[str, int] = {}
    for _ in range(100):
        more = {
            name: now - before[name]
            for name in before
            if (now := mesh.files(name)) - before[name] > MOST_FILES
        }
        if not more:
            break
        await asyncio.sleep(0.1)
    return [f"{name} has {count} files more open than at the beginning" for name, count in more.items()]


def _said_in_logs(mesh: Mesh) -> list[str]:
    """No log has content of a message, and none but that of an engine that was told to fail has a traceback."""
    faults = []
    for name, text in mesh.logs().items():
        for line in text.splitlines():
            if SECRET in line:
                faults.append(f"the log of {name} shows content: {line.replace(SECRET, '(secret)')[:300]}")
            elif "Traceback" in line and not _is_engines(line):
                faults.append(f"the log of {name} has a traceback: {line[:600]}")
            elif "never retrieved" in line or "encountered error" in line:
                faults.append(f"the log of {name} has an error of nobody: {line[:300]}")
    return faults


def _is_engines(line: str) -> bool:
    try:
        return bool(json.loads(line)["event"] == "engine.failed")
    except (ValueError, KeyError, TypeError):
        return False
