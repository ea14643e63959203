"""A process that hangs (SIGSTOP) is noticed within a set time, its work goes on elsewhere, and when it wakes up it does
no harm.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
from contextlib import AsyncExitStack

import nats
import pytest

from headrace.client.client import HeadraceClient
from headrace.contract.errors import HeadraceError
from headrace.contract.subjects import DEAD_STREAM
from headrace.contract.values import OutcomeKind
from tests.backpressure.conftest import MakeMesh
from tests.backpressure.streaming import PATIENCE_S, Read, stream
from tests.hostile.accounts import emptied
from tests.hostile.mesh import Mesh

pytestmark = pytest.mark.integration

NOTICED_S = 2.0
"""`router.worker_timeout_s`, and keepalive_time_s + keepalive_timeout_s, as these meshes have them."""
ON_TOP_S = 6.0
"""What it may take beside: checks in intervals, joins anew, a machine with much else to do."""
STEP_S = 0.01
TOKENS = 700
"""Seven seconds of a stream: enough to be stopped in, to go on elsewhere, and to see the one that wakes up."""


async def _logged(mesh: Mesh, name: str, pattern: str, times: int = 1) -> None:
    """Returns when a process has logged it so often."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if len(re.findall(pattern, mesh.log(name))) >= times:
                return
            await asyncio.sleep(0.05)  # a log has no event


async def test_a_stopped_workers_streams_go_on_elsewhere_and_it_joins_anew(make_mesh: MakeMesh) -> None:
    """Within the worker timeout; what it says when it wakes up is nobody's any more."""
    async with AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(make_mesh(step_s=STEP_S))
        client = await stack.enter_async_context(HeadraceClient(mesh.address("gateway-1")))
        expected = await stream(client, TOKENS)
        read = Read()
        streaming = asyncio.create_task(stream(client, TOKENS, read))
        await read.reaches(100)
        await mesh.start("worker-2")
        await _logged(mesh, "worker-2", "worker.joined")
        mesh.signal("worker-1", signal.SIGSTOP)
        stopped = len(read.token_ids)
        began_s = time.monotonic()
        await read.reaches(stopped + 100)
        assert time.monotonic() - began_s < NOTICED_S + ON_TOP_S
        mesh.signal("worker-1", signal.SIGCONT)
        await streaming
        assert (read.token_ids, read.text) == (expected.token_ids, expected.text)
        assert read.outcome is not None
        assert read.outcome.usage.attempts == 2
        await _logged(mesh, "worker-1", "worker.joined", 2)
        await mesh.stop("worker-2")
        assert (await stream(client, 50)).token_ids == expected.token_ids[:50], "it serves again"


async def test_a_stopped_routers_streams_go_on_at_another_and_nothing_is_doubled(make_mesh: MakeMesh) -> None:
    """Gateways and workers notice it by their connections' silence; when it wakes up it learns that it has lost."""
    async with AsyncExitStack() as stack:
        lanes = {"HEADRACE_WORKER_LANES": "8"}
        mesh = await stack.enter_async_context(
            make_mesh(step_s=STEP_S, routers=2, workers=2, environment=lanes)
        )
        await mesh.ready(lanes=16)
        client = await stack.enter_async_context(HeadraceClient(mesh.address("gateway-1")))
        nc = await nats.connect(mesh.nats_url)
        stack.push_async_callback(nc.close)
        expected = await stream(client, TOKENS)
        reads = [Read() for _ in range(8)]
        streaming = [asyncio.create_task(stream(client, TOKENS, read)) for read in reads]
        for read in reads:
            await read.reaches(20)
        mesh.signal("router-1", signal.SIGSTOP)
        stopped = [len(read.token_ids) for read in reads]
        began_s = time.monotonic()
        for read, had in zip(reads, stopped, strict=True):
            await read.reaches(had + 200)
        # The broker gives the requests to another router after ack_wait_s, which is 2 s in these meshes.
        assert time.monotonic() - began_s < NOTICED_S + 2.0 + ON_TOP_S
        mesh.signal("router-1", signal.SIGCONT)
        await asyncio.gather(*streaming)
        for read in reads:
            assert (read.token_ids, read.text) == (expected.token_ids, expected.text)
            durable = await client.result(read.request_id, wait_s=20)
            assert (durable.kind, list(durable.token_ids)) == (OutcomeKind.COMPLETED, expected.token_ids)
        js = nc.jetstream()
        assert await emptied(js) == 0
        assert (await js.stream_info(DEAD_STREAM)).state.messages == 0
        await _logged(mesh, "gateway-1", "router.joined", 3)
        await stream(client, 50)


async def test_a_stopped_gateway_hurts_its_own_clients_only(make_mesh: MakeMesh) -> None:
    """The others' streams keep their pace, a router keeps for it what its clients miss and no more, and each request of
    its clients has its outcome.
    """
    async with AsyncExitStack() as stack:
        lanes = {"HEADRACE_WORKER_LANES": "16"}
        mesh = await stack.enter_async_context(make_mesh(step_s=0.002, gateways=2, environment=lanes))
        hit = await stack.enter_async_context(HeadraceClient(mesh.address("gateway-1")))
        other = await stack.enter_async_context(HeadraceClient(mesh.address("gateway-2")))
        expected = await stream(other, 500)
        reads = [Read() for _ in range(12)]
        streaming = [asyncio.create_task(stream(hit, 6_000, read)) for read in reads]
        for read in reads:
            await read.reaches(20)
        before_mib = mesh.memory_mib("router-1")
        mesh.signal("gateway-1", signal.SIGSTOP)
        for _ in range(4):
            read = await stream(other, 500)
            assert read.text == expected.text
            assert read.longest_stall_s < 10
        await asyncio.wait(streaming, timeout=PATIENCE_S)
        assert all(isinstance(one.exception(), HeadraceError) for one in streaming), "their gateway is silent"
        assert mesh.memory_mib("router-1") - before_mib < 48
        mesh.signal("gateway-1", signal.SIGCONT)
        for read in reads:
            outcome = await other.result(read.request_id, wait_s=25)
            assert outcome.kind in (OutcomeKind.COMPLETED, OutcomeKind.CANCELLED)
        await stream(hit, 50)
