"""Queues that are full, and queues by the hundred."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack

import nats
import pytest

from headrace.client.client import HeadraceClient
from headrace.contract.errors import Overloaded
from headrace.contract.subjects import DEAD_STREAM, RESULTS_STREAM
from headrace.contract.values import OutcomeKind
from tests.backpressure.conftest import MakeMesh
from tests.backpressure.streaming import PATIENCE_S, stream
from tests.hostile.accounts import emptied

pytestmark = pytest.mark.integration

ROOM = 5
QUEUES = 900
LOOK_S = 5.0


async def test_a_full_queue_refuses_at_once_and_the_others_go_on(make_mesh: MakeMesh) -> None:
    """With the time to try again; what was accepted is answered, and then there is room."""
    full = {"HEADRACE_QUEUES_MAX_MESSAGES_PER_QUEUE": str(ROOM), "HEADRACE_WORKER_LANES": "1"}
    async with AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(make_mesh(step_s=0.02, environment=full))
        client = await stack.enter_async_context(HeadraceClient(mesh.address("gateway-1")))
        accepted = []
        with pytest.raises(Overloaded) as caught:
            for _ in range(ROOM + 1):
                began_s = time.monotonic()
                ask = {"model": "fake", "prompt": "p", "max_tokens": 60, "ignore_end": True}
                accepted.append(await client.submit(**ask, tenant="full"))  # type: ignore[arg-type]
        assert time.monotonic() - began_s < 2
        assert len(accepted) == ROOM
        assert caught.value.retry_after_s >= 1
        other = await stream(client, 20, tenant="other")
        assert len(other.token_ids) == 20
        for one in accepted:
            outcome = await client.result(one.request_id, tenant="full", wait_s=25)
            assert outcome.kind is OutcomeKind.COMPLETED
        await stream(client, 20, tenant="full")


async def test_hundreds_of_queues_are_served_and_cost_next_to_nothing_when_idle(make_mesh: MakeMesh) -> None:
    """Nearly as many as a router pulls at once."""
    lanes = {"HEADRACE_WORKER_LANES": "8", "HEADRACE_WORKER_MAX_BATCH": "16"}
    async with AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(make_mesh(environment=lanes))
        client = await stack.enter_async_context(HeadraceClient(mesh.address("gateway-1")))
        await stream(client, 50)
        nc = await nats.connect(mesh.nats_url)
        stack.push_async_callback(nc.close)
        js = nc.jetstream()
        names = ("router-1", "gateway-1", "nats")
        before_mib = {name: mesh.memory_mib(name) for name in names}
        body = json.dumps({"prompt": "count", "max_tokens": 4}).encode()
        for first in range(0, QUEUES, 300):
            await asyncio.gather(
                *(js.publish(f"hr.v1.req.fake.normal.t-{n}", body) for n in range(first, first + 300))
            )
        assert await emptied(js) == 0
        assert (await js.stream_info(RESULTS_STREAM)).state.messages >= QUEUES
        assert (await js.stream_info(DEAD_STREAM)).state.messages == 0
        grown = {name: mesh.memory_mib(name) - size for name, size in before_mib.items()}
        assert grown["router-1"] < 64, grown
        assert grown["gateway-1"] < 16, grown
        before_s = {name: mesh.cpu_s(name) for name in names}
        await asyncio.sleep(LOOK_S)  # what is measured is a time of idleness
        spent = {name: (mesh.cpu_s(name) - before) / LOOK_S for name, before in before_s.items()}
        assert all(share < 0.15 for share in spent.values()), spent
        async with asyncio.timeout(PATIENCE_S):
            await stream(client, 50, tenant="t-1")
