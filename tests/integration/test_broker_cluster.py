"""A cluster of three nats-servers loses the server that leads, one way and the other, under load."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from headrace.contract.subjects import REQUESTS_STREAM, RESULTS_STREAM, consumer_name
from tests.integration.asking import Asking
from tests.integration.local_mesh import LIMIT_S, LocalMesh, local_mesh
from tests.nats_servers import NatsCluster

pytestmark = pytest.mark.integration

CONSUMER = f"CONSUMER.LEADER.STEPDOWN.{REQUESTS_STREAM}.{consumer_name('hr.v1.req.fake.normal.default')}"


async def test_a_cluster_that_loses_its_leader_loses_nothing(tmp_path: Path) -> None:
    """Who waits, runs and comes meanwhile is answered, once; all go on with the servers that are left."""
    copies: dict[str, Any] = {"nats.replicas": 3}
    with NatsCluster(tmp_path / "nats") as cluster:
        first = await asyncio.to_thread(cluster.leader)
        # The mesh is told of one server, and learns of the others from it.
        async with local_mesh(tmp_path, first.url, seen_by_test=cluster.urls, step_s=0.01, **copies) as mesh:
            async with Asking(mesh.client) as asking:
                await asking.submit(20)
                await asking.some_end(2)
                await _hand_over(mesh, CONSUMER, first.name)
                for stream in (REQUESTS_STREAM, RESULTS_STREAM):
                    await _hand_over(mesh, f"STREAM.LEADER.STEPDOWN.{stream}", first.name)
                await asking.some_end(4)
                await asyncio.to_thread(first.end)
                await asking.submit_somehow(10)
                await asking.some_end(4)
                await mesh.gateway_is(True)
            await asking.all_completed()


async def _hand_over(mesh: LocalMesh, what: str, to: str) -> None:
    """Has a leader step down, for the server `to` if it is not that one."""
    wish = json.dumps({"placement": {"preferred": to}}).encode()
    answer = json.loads((await mesh.nats.request(f"$JS.API.{what}", wish, timeout=LIMIT_S)).data)
    assert answer.get("success") or "already" in answer["error"]["description"], answer
