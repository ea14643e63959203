"""The broker has no room: for requests, for outcomes, or at all. Nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.js import JetStreamContext

from headrace.contract.errors import Overloaded
from headrace.contract.subjects import REQUESTS_STREAM, RESULTS_STREAM, consumer_name
from headrace.runtime.nats_state import BROKER_HEALTH
from tests.integration.asking import Asking
from tests.integration.local_mesh import LIMIT_S, UNSERVED, local_mesh
from tests.nats_servers import NatsServer

pytestmark = pytest.mark.integration

MIB = 1024 * 1024
QUEUE = "hr.v1.req.fake.normal.default"
BALLAST = "hr.v1.res.ballast"

ROOMY_MESSAGES = 40
"""Messages of 4 MiB in a store of 200 MB: they leave room to work in, and are quickly made too many again."""


async def _fill(js: JetStreamContext, subject: str) -> None:
    """Publishes to subjects under `subject` until the broker has room for nothing more."""
    size, number = 200_000, 0
    while size:
        try:
            await js.publish(f"{subject}.{number}", b"x" * size)
        except nats.errors.Error:
            size //= 2
        number += 1


async def test_no_room_for_outcomes(tmp_path: Path) -> None:
    """They wait in the router, which pulls no more than it may hold, and says how the broker is; with room again, each
    is stored and its client told.
    """
    with NatsServer(tmp_path / "nats") as server:
        bounds: dict[str, Any] = {"queues.result_max_bytes": MIB, "router.max_held": 8}
        async with local_mesh(tmp_path, server.url, **bounds) as mesh:
            js = mesh.nats.jetstream()
            await _fill(js, BALLAST)
            async with Asking(mesh.client, clients=1) as asking:
                await mesh.router_is(False, BROKER_HEALTH)
                await mesh.router_is(True)
                await asking.submit(30)
                await _held_are(js, 8)
                await asyncio.sleep(1.5)  # some attempts to store, and none to pull
                await _held_are(js, 8)
                assert not any(asking.accepted.values()), "no outcome is told before it is durable"
                await js.purge_stream(RESULTS_STREAM, subject=f"{BALLAST}.>")
                await asking.some_end(2)
                await mesh.is_sound(True)
            await asking.all_completed()


async def _held_are(js: JetStreamContext, count: int) -> None:
    """Waits until the router has so many requests that are not acknowledged; fails where it has more."""
    held = -1
    async with asyncio.timeout(LIMIT_S):
        while held != count:
            held = (await js.consumer_info(REQUESTS_STREAM, consumer_name(QUEUE))).num_ack_pending or 0
            assert held <= count


async def test_no_room_for_requests(tmp_path: Path) -> None:
    """They are refused with a time to try again; the gateway serves on, and says how the broker is."""
    bounds: dict[str, Any] = {"queues.max_bytes": MIB}
    with NatsServer(tmp_path / "nats") as server:
        async with local_mesh(tmp_path, server.url, **bounds) as mesh:
            js = mesh.nats.jetstream()
            await _fill(js, f"hr.v1.req.{UNSERVED}.normal")
            async with Asking(mesh.client, clients=1) as asking:
                await mesh.gateway_is(False, BROKER_HEALTH)
                await mesh.gateway_is(True)
                with pytest.raises(Overloaded, match="store of waiting requests is full") as caught:
                    await mesh.client.submit(model="fake", prompt="p")
                assert caught.value.retry_after_s >= 1.0
                assert not asking.accepted
                await js.purge_stream(REQUESTS_STREAM)
                await asking.some_end(2)
                await mesh.is_sound(True)
            await asking.all_completed()


async def test_no_room_at_all(tmp_path: Path) -> None:
    """The server keeps as much as it may, for whoever: requests are refused, outcomes wait, and both go on later."""
    bounds: dict[str, Any] = {
        "queues.max_bytes": 4 * MIB,
        "queues.result_max_bytes": 4 * MIB,
        "queues.dead_max_bytes": 4 * MIB,
        "queues.payload_max_bytes": 4 * MIB,
    }
    with NatsServer(tmp_path / "nats", jetstream=["max_file_store: 200MB"]) as server:
        async with local_mesh(tmp_path, server.url, step_s=0.05, **bounds) as mesh:
            js = mesh.nats.jetstream()
            await js.add_stream(name="BALLAST", subjects=["ballast.>"])
            await _fill_server(js)
            await js.purge_stream("BALLAST", keep=ROOMY_MESSAGES)
            async with Asking(mesh.client, clients=2) as asking:
                await asking.some_end(1)
                await asking.submit(1, tokens=100)  # five seconds long: it ends when there is no room
                await _fill_server(js)
                with pytest.raises(Overloaded):
                    await mesh.client.submit(model="fake", prompt="p")
                await mesh.is_sound(False)
                await js.delete_stream("BALLAST")
                await asking.some_end(2)
                await mesh.is_sound(True)
            await asking.all_completed()


async def _fill_server(js: JetStreamContext) -> None:
    """Publishes messages of 4 MiB until the server has no room for another."""
    body = b"x" * 4 * MIB
    with pytest.raises(nats.errors.Error, match="insufficient resources"):
        while True:
            await js.publish("ballast.x", body)
