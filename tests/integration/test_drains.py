"""Processes drain under load, one after another, and nobody notices."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from headrace.client.admin import AdminClient
from headrace.client.client import HeadraceClient
from headrace.contract.admin import Member
from headrace.contract.errors import HeadraceError, Unavailable
from headrace.contract.ids import new_request_id
from headrace.contract.values import Accepted, Outcome, OutcomeKind, TokenChunk
from tests.integration.processes import Processes

pytestmark = pytest.mark.integration

NAMES = ("router", "router-2", "gateway", "gateway-2", "worker", "worker-2")
CLIENTS = 6
TOKENS = 60
"""At 100 tokens a second: each stream is longer than a drain takes that waits for none."""
LIMIT_S = 60.0


@dataclass
class Load:
    """Clients that ask again and again, at either gateway, and what became of it."""

    mesh: Processes
    done: int = 0
    """Streams that came whole."""
    ended: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def ask(self, number: int, expected: Outcome) -> None:
        """One client. What no gateway had accepted is asked again elsewhere; what was accepted must end well."""
        gateways = itertools.cycle(("gateway", "gateway-2") if number % 2 else ("gateway-2", "gateway"))
        gateway = next(gateways)
        while True:
            request_id = new_request_id()
            async with asyncio.timeout(LIMIT_S):
                while not await self._streamed(gateway, request_id, expected):
                    gateway = next(gateways)
                    await asyncio.sleep(0.05)  # as a client that was refused would
            async with self.ended:
                self.done += 1
                self.ended.notify_all()

    async def _streamed(self, gateway: str, request_id: str, expected: Outcome) -> bool:
        """False where the gateway had not accepted it."""
        ids: list[int] = []
        accepted = False
        async with HeadraceClient(self.mesh.address_of(gateway)) as client:
            try:
                async for event in client.generate(
                    model="fake", prompt="count", max_tokens=TOKENS, ignore_end=True, request_id=request_id
                ):
                    if isinstance(event, Accepted):
                        accepted = True
                    elif isinstance(event, TokenChunk):
                        assert event.first_index == len(ids), "no gap, no repeat"
                        ids.extend(event.token_ids)
                    elif isinstance(event, Outcome):
                        assert event.kind is OutcomeKind.COMPLETED
                        assert tuple(ids) == expected.token_ids
            except Unavailable:
                assert not accepted, "a drain cuts no stream"
                return False
        return True

    async def goes_on(self, streams: int = CLIENTS) -> None:
        """Until so many more streams have come whole."""
        async with asyncio.timeout(LIMIT_S), self.ended:
            until = self.done + streams
            await self.ended.wait_for(lambda: self.done >= until)


@asynccontextmanager
async def load(mesh: Processes) -> AsyncIterator[Load]:
    async with HeadraceClient(mesh.address) as client:
        expected = await client.complete(model="fake", prompt="count", max_tokens=TOKENS, ignore_end=True)
    running = Load(mesh)
    async with asyncio.TaskGroup() as clients:
        tasks = [clients.create_task(running.ask(number, expected)) for number in range(CLIENTS)]
        try:
            yield running
        finally:
            for task in tasks:
                task.cancel()


async def member(mesh: Processes, name: str) -> Member:
    """The process as operators see it, when they do."""
    kind = name.partition("-")[0]
    async with asyncio.timeout(LIMIT_S):
        while True:
            gateway = "gateway-2" if name == "gateway" else "gateway"
            try:
                async with AdminClient(mesh.address_of(gateway)) as admin:
                    for found in await admin.members():
                        ours = (
                            found.id.endswith(f"-{mesh.pid(name)}")
                            if kind == "worker"
                            else found.address == mesh.address_of(name) and not found.draining
                        )
                        if found.kind.value == kind and ours:
                            return found
            except HeadraceError:
                pass  # it is being started
            await asyncio.sleep(0.2)


async def drain_by_signal(mesh: Processes, name: str) -> int:
    return await mesh.stop(name)


async def drain_by_service(mesh: Processes, name: str) -> int:
    found = await member(mesh, name)
    async with AdminClient(mesh.address_of("gateway-2")) as admin:
        begun = await admin.drain(found.id, found.kind)
    assert (begun.member.id, begun.member.draining) == (found.id, False)
    return await mesh.ended(name)


async def drain_by_command(mesh: Processes, name: str) -> int:
    found = await member(mesh, name)
    gateway = mesh.address_of("gateway-2" if name == "gateway" else "gateway")
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace.cli", "drain", "--address", gateway, found.id),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    code = await mesh.ended(name)
    said, _ = await command.communicate()
    assert command.returncode == 0, said.decode()
    assert f"{found.kind.value} {found.id} has drained and is gone" in said.decode()
    return code


@pytest.mark.parametrize("drain", [drain_by_signal, drain_by_service, drain_by_command])
async def test_a_rolling_restart_loses_nothing(
    fake_store: Callable[[float], Path],
    tmp_path: Path,
    drain: Callable[[Processes, str], asyncio.Future[int]],
) -> None:
    """Each process of each kind, one after another, under load: exit code 0, and every accepted stream comes whole from
    the gateway that accepted it.
    """
    store = fake_store(0.01)
    environment = {"HEADRACE_WORKER_LANES": "2"}
    async with (
        Processes(tmp_path, models=store, names=NAMES, environment=environment) as mesh,
        load(mesh) as running,
    ):
        for name in NAMES:
            await member(mesh, name)
        for name in NAMES:
            await running.goes_on()
            assert await drain(mesh, name) == 0, mesh.log(name)[-2000:]
            await running.goes_on()
            await mesh.start(name)
            await member(mesh, name)
        await running.goes_on()


async def test_a_stream_that_outlasts_every_grace_is_handed_on(
    fake_store: Callable[[float], Path], tmp_path: Path
) -> None:
    """By whichever worker runs it, from its last token; and none of that counts as a failed attempt."""
    environment = {
        "HEADRACE_WORKER_DRAIN_GRACE_S": "0.2",
        "HEADRACE_ROUTER_MAX_ATTEMPTS": "1",
    }
    names = ("router", "gateway", "worker", "worker-2")
    async with (
        Processes(tmp_path, models=fake_store(0.02), names=names, environment=environment) as mesh,
        HeadraceClient(mesh.address) as client,
    ):
        drained = ("worker", "worker-2")
        for name in drained:
            await member(mesh, name)
        ids: list[int] = []
        news = asyncio.Condition()

        async def read() -> None:
            async for event in client.generate(
                model="fake", prompt="count", max_tokens=3500, ignore_end=True
            ):
                assert not isinstance(event, Outcome), event
                if isinstance(event, TokenChunk):
                    assert event.first_index == len(ids), "no gap, no repeat"
                    ids.extend(event.token_ids)
                    async with news:
                        news.notify_all()

        async def goes_on() -> None:
            more = len(ids) + 20
            async with asyncio.timeout(LIMIT_S), news:
                await news.wait_for(lambda: len(ids) >= more)

        async with asyncio.TaskGroup() as group:
            reading = group.create_task(read())
            for _ in range(3):
                await goes_on()
                (name,) = [name for name in drained if (await member(mesh, name)).requests]
                assert await mesh.stop(name) == 0, mesh.log(name)[-2000:]
                await goes_on()
                await mesh.start(name)
                await member(mesh, name)
            await goes_on()
            reading.cancel()
        whole = await client.complete(model="fake", prompt="count", max_tokens=len(ids), ignore_end=True)
        assert tuple(ids) == whole.token_ids
