"""Pulls on a real broker: one open per queue, renewed whatever becomes of them, and let go when they are not wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo
from nats.js.errors import NotFoundError

from headrace.contract.subjects import REQUESTS_STREAM, consumer_name
from headrace.router import pulls as pulls_module
from headrace.router.pulls import Pulls
from headrace.runtime.nats_connection import connect
from headrace.runtime.nats_layout import ensure_layout
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.nats_state import NatsHealth
from headrace.runtime.settings import Settings

pytestmark = pytest.mark.integration

QUEUE = "hr.v1.req.m.normal.default"
LIMIT_S = 15.0


@dataclass
class Puller:
    """Pulls, and what they told."""

    nats: Client
    js: JetStreamContext
    pulls: Pulls
    got: asyncio.Queue[Msg] = field(default_factory=asyncio.Queue)
    told: asyncio.Queue[tuple[str, int]] = field(default_factory=asyncio.Queue)
    """Lapses as (queue, count); a queue that is gone as (queue, 0)."""
    missed: int = 0

    async def message(self) -> Msg:
        return await asyncio.wait_for(self.got.get(), LIMIT_S)

    async def tells(self) -> tuple[str, int]:
        return await asyncio.wait_for(self.told.get(), LIMIT_S)

    async def publish(self, count: int = 1) -> None:
        for _ in range(count):
            await self.js.publish(QUEUE, b"x")

    async def consumer(self) -> ConsumerInfo:
        info: ConsumerInfo = await self.js.consumer_info(REQUESTS_STREAM, consumer_name(QUEUE))
        return info

    async def is_open(self) -> None:
        """Returns when the broker has a pull of the queue."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                with suppress(NotFoundError):  # it is being made
                    if (await self.consumer()).num_waiting:
                        return


@asynccontextmanager
async def puller(settings: Settings, *, again: bool = False) -> AsyncIterator[Puller]:
    """`again` orders anew what lapsed, as the core does."""
    health = NatsHealth()
    async with connect(settings.nats, "test", health.record) as nc:
        js = (await ensure_layout(nc, settings)).js

        def lapsed(subject: str, count: int) -> None:
            running.told.put_nowait((subject, count))
            if again:
                running.pulls.order(subject, count)

        def missed() -> None:
            running.missed += 1

        running = Puller(
            nats=nc,
            js=js,
            pulls=Pulls(
                nc,
                health=health,
                ack_wait_s=30,
                consumer_idle_s=3600,
                receive=lambda message: running.got.put_nowait(message),
                lapsed=lapsed,
                gone=lambda subject: running.told.put_nowait((subject, 0)),
                missed=missed,
            ),
        )
        task = asyncio.create_task(running.pulls.run())
        yield running
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def settings(fresh_nats: EmbeddedNats, settings_for: Callable[..., Settings]) -> Settings:
    return settings_for(fresh_nats)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pulls that expire soon."""
    monkeypatch.setattr(pulls_module, "EXPIRES_S", 0.4)
    monkeypatch.setattr(pulls_module, "SILENT_S", 0.8)


async def test_one_pull_is_open_however_often_it_is_ordered(settings: Settings) -> None:
    """What is ordered meanwhile is in the next one, and all of it comes."""
    async with puller(settings) as here:
        for _ in range(10):
            here.pulls.order(QUEUE, 1)
            await here.is_open()
        assert (await here.consumer()).num_waiting == 1
        await here.publish(12)
        for _ in range(10):
            await here.message()
        async with asyncio.timeout(LIMIT_S):  # the broker counts what it stored a moment after it said so
            while (consumer := await here.consumer()).num_pending != 2:  # noqa: ASYNC110 — it has no event
                await asyncio.sleep(0.01)
        assert (consumer.num_ack_pending, consumer.num_waiting) == (10, 0), "no more than was ordered"


async def test_a_pull_that_expires_is_told(settings: Settings, short: None) -> None:
    """With what it did not bring, and what was ordered beside it."""
    async with puller(settings) as here:
        here.pulls.order(QUEUE, 3)
        await here.is_open()
        here.pulls.order(QUEUE, 2)
        await here.publish(1)
        await here.message()
        assert await here.tells() == (QUEUE, 4)


async def test_a_deleted_consumer_is_made_anew_at_once(settings: Settings) -> None:
    async with puller(settings, again=True) as here:
        here.pulls.order(QUEUE, 1)
        await here.is_open()
        await here.js.delete_consumer(REQUESTS_STREAM, consumer_name(QUEUE))
        await here.publish()
        await asyncio.wait_for(here.message(), pulls_module.EXPIRES_S)


async def test_a_deleted_stream_is_missed_and_nothing_spins(settings: Settings) -> None:
    """It is asked for again with growing waits, and pulled when it is there."""
    async with puller(settings, again=True) as here:
        here.pulls.order(QUEUE, 1)
        await here.is_open()
        await here.js.delete_stream(REQUESTS_STREAM)
        await asyncio.sleep(1.5)
        assert 1 <= here.missed <= 8
        await ensure_layout(here.nats, settings)
        await here.publish()
        await here.message()


async def test_a_pull_that_is_lost_is_missed(
    settings: Settings, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the server that held it is gone: nobody tells of its end."""
    async with puller(settings, again=True) as here:
        here.pulls.order(QUEUE, 1)
        await here.is_open()
        publish = here.nats.publish
        lost: list[str] = []

        async def lose_one(subject: str, payload: bytes = b"", **more: Any) -> None:
            if "MSG.NEXT" in subject and not lost:
                lost.append(subject)
                return
            await publish(subject, payload, **more)

        monkeypatch.setattr(here.nats, "publish", lose_one)
        assert await here.tells() == (QUEUE, 1)  # it expires, and the next one is lost
        assert await here.tells() == (QUEUE, 1)
        assert lost
        await here.is_open()
        await here.publish()
        await here.message()


async def test_a_queue_is_let_go_when_its_pull_has_ended(settings: Settings, short: None) -> None:
    """Not before: a message that comes until then counts as ordered. Then nothing of it is left at the broker."""
    async with puller(settings) as here:
        here.pulls.order(QUEUE, 2)
        await here.is_open()
        here.pulls.let_go(QUEUE)
        assert here.told.empty()
        assert await here.tells() == (QUEUE, 0)
        assert not (await here.consumer()).num_waiting


async def test_a_message_keeps_its_queue(settings: Settings, short: None) -> None:
    """A queue that is being let go stays where a message of it comes."""
    async with puller(settings) as here:
        here.pulls.order(QUEUE, 2)
        await here.is_open()
        here.pulls.let_go(QUEUE)
        await here.publish()
        await here.message()
        assert await here.tells() == (QUEUE, 1)


async def test_a_queue_without_a_pull_is_let_go_at_once(settings: Settings) -> None:
    async with puller(settings) as here:
        here.pulls.let_go(QUEUE)
        assert here.told.get_nowait() == (QUEUE, 0)


async def test_every_pull_lapses_on_a_new_connection(settings: Settings) -> None:
    async with puller(settings) as here:
        here.pulls.order(QUEUE, 5)
        await here.is_open()
        here.pulls.renew()
        assert here.told.get_nowait() == (QUEUE, 5)
