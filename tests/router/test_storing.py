"""Storing for as long as it takes, on a real broker that has no room, no stream, or nothing to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import nats.errors
import pytest
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from headrace.contract.subjects import (
    DEAD_STREAM,
    REQUESTS_STREAM,
    RESULTS_STREAM,
    consumer_name,
    result_subject,
)
from headrace.router.storing import Storing
from headrace.runtime.nats_connection import connect
from headrace.runtime.nats_layout import ensure_layout
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.nats_state import NatsHealth
from headrace.runtime.settings import Settings
from tests.router.conftest import Mesh
from tests.router.peers import worker

pytestmark = pytest.mark.integration

MIB = 1024 * 1024
QUEUE = "hr.v1.req.fake.normal.default"


@dataclass
class Store:
    js: JetStreamContext
    storing: Storing
    health: NatsHealth
    missed: asyncio.Event
    attempts: int = 0

    async def store(self, number: int, size: int = 1000) -> bool:
        subject = result_subject("default", f"id{number}")
        return await self.storing.store(subject, b"x" * size, {"Nats-Msg-Id": f"id{number}"})


@asynccontextmanager
async def store(settings: Settings) -> AsyncIterator[Store]:
    health = NatsHealth()
    async with connect(settings.nats, "test", health.record) as nc:
        js = (await ensure_layout(nc, settings)).js
        missed = asyncio.Event()
        storing = Storing(js, health=health, missed=missed.set, max_wait_s=0.2)
        here = Store(js, storing, health, missed)
        publish = js.publish

        async def counted(*args: object, **more: object) -> object:
            here.attempts += 1
            return await publish(*args, **more)  # type: ignore[arg-type]

        js.publish = counted  # type: ignore[method-assign, assignment]
        yield here


@pytest.fixture
def settings(fresh_nats: EmbeddedNats, settings_for: Callable[..., Settings]) -> Settings:
    return settings_for(fresh_nats, **{"queues.result_max_bytes": MIB})


async def _fill(js: JetStreamContext) -> None:
    size = 200_000
    number = 0
    while size:
        try:
            await js.publish(f"hr.v1.res.ballast.{number}", b"x" * size)
        except nats.errors.Error:
            size //= 2
        number += 1


async def test_the_first_counts(settings: Settings) -> None:
    """A second message of a subject is not stored, sent again or not."""
    async with store(settings) as here:
        assert await here.store(1)
        assert not await here.store(1), "the same id: the broker takes it for the same message"
        assert not await here.storing.store(result_subject("default", "id1"), b"other", {})
        assert here.health.sound


async def test_many_wait_for_room_as_one(settings: Settings) -> None:
    """While there is none, they are tried one at a time, with waits; then all are stored at once."""
    async with store(settings) as here:
        await _fill(here.js)
        here.attempts = 0
        waiting = [asyncio.create_task(here.store(number)) for number in range(200)]
        await asyncio.sleep(2.0)
        assert not any(task.done() for task in waiting)
        assert not here.health.sound
        assert here.attempts < 200 + 25, "each once, and from then on about ten in a second together"
        await here.js.purge_stream(RESULTS_STREAM)
        assert all(await asyncio.wait_for(asyncio.gather(*waiting), 10))
        assert here.health.sound


async def test_a_missing_stream_is_missed(settings: Settings) -> None:
    """And used as soon as somebody has declared it."""
    async with store(settings) as here:
        await here.js.delete_stream(RESULTS_STREAM)
        waiting = asyncio.create_task(here.store(1))
        await asyncio.wait_for(here.missed.wait(), 5)
        assert not here.health.sound
        await ensure_layout(here.js._nc, settings)
        assert await asyncio.wait_for(waiting, 5)
        assert here.health.sound


async def test_a_message_that_waits_for_its_burial_waits_once(mesh: Mesh) -> None:
    """However often the broker delivers it again meanwhile, and its queue goes on; then it is one dead letter."""
    router = await mesh.start_router("r-1")
    js = mesh.nats.jetstream()
    await js.delete_stream(DEAD_STREAM)
    await js.add_stream(name="THEIRS", subjects=["hr.v1.dead.*"])  # so that it cannot be declared anew
    async with worker(router.address, mesh.model, heartbeat_s=0.2):
        await mesh.publish_json(QUEUE, {"max_tokens": "many"})
        delivered = 0
        async with asyncio.timeout(30):
            while delivered < 3:
                with suppress(NotFoundError):  # it is being made
                    info = await js.consumer_info(REQUESTS_STREAM, consumer_name(QUEUE))
                    delivered = 0 if info.delivered is None else info.delivered.consumer_seq
        waiting = [task for task in asyncio.all_tasks() if task.get_name() == "intake"]
        assert len(waiting) == 1
        await js.delete_stream("THEIRS")
        await asyncio.wait(waiting, timeout=20)
    assert (await js.stream_info(DEAD_STREAM)).state.messages == 1
    left = 1
    async with asyncio.timeout(20):
        while left:
            left = (await js.stream_info(REQUESTS_STREAM)).state.messages
