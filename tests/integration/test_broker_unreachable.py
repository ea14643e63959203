"""The network between the mesh and the broker breaks, loudly or silently, and heals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headrace.contract.errors import Unavailable
from tests.integration.asking import Asking
from tests.integration.local_mesh import PING_S, LocalMesh, local_mesh
from tests.nats_servers import NatsServer
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.integration

OUTAGE_S = 3.0
MOST_CPU = 0.35
"""Of one core, for router, gateway, worker and test together while they wait: a loop that spins takes all of it."""


@asynccontextmanager
async def behind_a_proxy(tmp_path: Path) -> AsyncIterator[tuple[LocalMesh, TcpProxy]]:
    with NatsServer(tmp_path / "nats") as server:
        async with (
            TcpProxy(server.port) as proxy,
            local_mesh(tmp_path, proxy.url, seen_by_test=server.url) as mesh,
        ):
            yield mesh, proxy


async def _waits_quietly(mesh: LocalMesh) -> None:
    """The outage itself: nothing spins, and nothing new is taken."""
    with pytest.raises(Unavailable):
        await mesh.client.submit(model="fake", prompt="p")
    began_s, cpu_s = time.monotonic(), time.process_time()
    await asyncio.sleep(OUTAGE_S)
    spent = (time.process_time() - cpu_s) / (time.monotonic() - began_s)
    assert spent < MOST_CPU


async def _is_well_again(mesh: LocalMesh) -> None:
    await mesh.gateway_is(True)
    await mesh.router_is(True)
    await mesh.is_sound(True)
    async with Asking(mesh.client) as asking:
        await asking.some_end(3)
    await asking.all_completed()


async def test_a_network_that_swallows_is_noticed(tmp_path: Path) -> None:
    """Within two pings, though no connection breaks; what was accepted before is answered after it."""
    async with behind_a_proxy(tmp_path) as (mesh, proxy):
        async with Asking(mesh.client) as asking:
            await asking.submit(20)
            await asking.some_end(2)
            proxy.swallow()
            began_s = time.monotonic()
            await mesh.gateway_is(False)
            await mesh.router_is(False)
            assert time.monotonic() - began_s < 2 * PING_S + 1.0
            asking.stop()
            await _waits_quietly(mesh)
            await proxy.heal()
        await _is_well_again(mesh)
        await asking.all_completed()


async def test_a_network_that_refuses(tmp_path: Path) -> None:
    """The same where connections break and are refused."""
    async with behind_a_proxy(tmp_path) as (mesh, proxy):
        async with Asking(mesh.client) as asking:
            await asking.submit(20)
            await asking.some_end(2)
            await proxy.refuse()
            await mesh.gateway_is(False)
            await mesh.router_is(False)
            asking.stop()
            await _waits_quietly(mesh)
            await proxy.heal()
        await _is_well_again(mesh)
        await asking.all_completed()
