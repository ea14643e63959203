"""Streams and consumers are deleted under the mesh, one by one, as by an operator's accident."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from headrace.contract.queue_wire import decode_dead_letter
from headrace.contract.subjects import (
    DEAD_STREAM,
    MEMBERS_BUCKET,
    REQUESTS_STREAM,
    RESULTS_STREAM,
    consumer_name,
)
from tests.integration.asking import Asking
from tests.integration.local_mesh import LIMIT_S, LocalMesh, local_mesh
from tests.nats_servers import NatsServer

pytestmark = pytest.mark.integration

QUEUE = "hr.v1.req.fake.normal.default"


async def _serves_as_before(mesh: LocalMesh) -> None:
    async with Asking(mesh.client) as asking:
        await asking.some_end(3)
        await asking.submit(5)
    await asking.all_completed()
    await mesh.is_sound(True)


@pytest.mark.parametrize("stream", [REQUESTS_STREAM, RESULTS_STREAM, DEAD_STREAM, f"KV_{MEMBERS_BUCKET}"])
async def test_a_deleted_stream_is_declared_anew(stream: str, tmp_path: Path) -> None:
    """What the router holds is answered, and later requests are served as before."""
    with NatsServer(tmp_path / "nats") as server:
        async with local_mesh(tmp_path, server.url, step_s=0.02) as mesh:
            js = mesh.nats.jetstream()
            async with Asking(mesh.client, clients=2) as asking:
                await asking.all_stream()
                asking.stop()
                await js.delete_stream(stream)
            assert len(asking.accepted) == 2
            await asking.all_completed()
            await _serves_as_before(mesh)
            await _is_there(mesh, stream)


async def _is_there(mesh: LocalMesh, stream: str) -> None:
    names: set[str | None] = set()
    async with asyncio.timeout(LIMIT_S):
        while stream not in names:
            names = {info.config.name for info in await mesh.nats.jetstream().streams_info()}


async def test_a_dead_letter_waits_for_its_stream(tmp_path: Path) -> None:
    """The stream is declared for it, also where somebody else hears the letters: then nobody says that it is gone."""
    with NatsServer(tmp_path / "nats") as server:
        async with local_mesh(tmp_path, server.url) as mesh:
            js = mesh.nats.jetstream()
            await js.delete_stream(DEAD_STREAM)
            await mesh.nats.subscribe("hr.v1.dead.>", cb=_nothing)
            await js.publish(QUEUE, b"not what it should be")
            await _is_there(mesh, DEAD_STREAM)
            letters = await js.subscribe("hr.v1.dead.>", stream=DEAD_STREAM, ordered_consumer=True)
            letter = await letters.next_msg(timeout=LIMIT_S)
            assert decode_dead_letter(letter.data).body == b"not what it should be"


async def _nothing(message: Msg) -> None:
    """Hears it, and does nothing."""


async def test_requests_beside_an_old_acknowledgement(tmp_path: Path) -> None:
    """The end of a request of the deleted stream takes none off the new one, though a router holds both."""
    with NatsServer(tmp_path / "nats") as server:
        async with local_mesh(tmp_path, server.url, step_s=0.02) as mesh:
            js = mesh.nats.jetstream()
            async with Asking(mesh.client, clients=2, tokens=40) as asking:
                await asking.all_stream()
                asking.stop()
                await js.delete_stream(REQUESTS_STREAM)
                await asking.submit(6, tokens=100)
            left = (await js.stream_info(REQUESTS_STREAM)).state.messages
            assert left == 6, "they run, and are not acknowledged"
            await asking.all_completed()


async def test_a_deleted_consumer_is_made_anew(tmp_path: Path) -> None:
    """What waits is pulled and what runs goes on, within seconds and without a second answer."""
    with NatsServer(tmp_path / "nats") as server:
        async with local_mesh(tmp_path, server.url, step_s=0.01) as mesh:
            js = mesh.nats.jetstream()
            async with Asking(mesh.client) as asking:
                await asking.submit(20)
                await asking.some_end(1)
                await js.delete_consumer(REQUESTS_STREAM, consumer_name(QUEUE))
                await asking.some_end(4)
            await asking.all_completed()
            assert (await js.stream_info(REQUESTS_STREAM)).state.messages == 0
