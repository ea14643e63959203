"""The layout is declared while a process runs, not only at its start; and the health tells what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from structlog.testing import capture_logs

from headrace.runtime import nats_upkeep
from headrace.runtime.nats_connection import connect
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.nats_state import Link, LinkState, NatsHealth
from headrace.runtime.nats_upkeep import LayoutKeeper
from headrace.runtime.settings import Settings

pytestmark = pytest.mark.integration

LIMIT_S = 15.0


@dataclass
class Kept:
    nats: Client
    js: JetStreamContext
    keeper: LayoutKeeper
    health: NatsHealth

    async def has(self, stream: str) -> None:
        """Returns when the broker has the stream."""
        async with asyncio.timeout(LIMIT_S):
            names: set[str | None] = set()
            while stream not in names:
                names = {info.config.name for info in await self.js.streams_info()}

    async def becomes_sound(self, sound: bool) -> None:
        """Returns when the health says so."""
        async with asyncio.timeout(LIMIT_S):
            async for _ in self.health.changes():
                if self.health.sound == sound:
                    return


@asynccontextmanager
async def kept(settings: Settings) -> AsyncIterator[Kept]:
    health = NatsHealth()
    async with connect(settings.nats, "test", health.record) as nc:
        keeper = LayoutKeeper(nc, settings, health)
        js = (await keeper.first()).js
        task = asyncio.create_task(keeper.run())
        yield Kept(nc, js, keeper, health)
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def settings(fresh_nats: EmbeddedNats, settings_for: Callable[..., Settings]) -> Settings:
    return settings_for(fresh_nats, **{"nats.reconnect_wait_s": 0.05, "nats.reconnect_max_wait_s": 0.2})


async def test_a_deleted_stream_comes_back_by_itself(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nobody missed it."""
    monkeypatch.setattr(nats_upkeep, "LOOK_EVERY_S", 0.1)
    async with kept(settings) as here:
        await here.js.delete_stream("HEADRACE_DEAD")
        await here.has("HEADRACE_DEAD")
        assert here.health.sound


async def test_what_is_missed_comes_back_at_once(settings: Settings) -> None:
    """Long before the next look."""
    async with kept(settings) as here:
        await here.js.delete_stream("HEADRACE_RESULTS")
        here.keeper.missed()
        await asyncio.wait_for(here.has("HEADRACE_RESULTS"), nats_upkeep.LOOK_EVERY_S / 2)


async def test_what_cannot_be_declared_is_a_trouble(settings: Settings) -> None:
    """Somebody else's stream has the subjects: it is told once, tried again with waits, and over when that is gone."""
    async with kept(settings) as here:
        with capture_logs() as lines:
            await here.js.delete_stream("HEADRACE_RESULTS")
            await here.js.add_stream(name="THEIRS", subjects=["hr.v1.res.x"])
            here.keeper.missed()
            await here.becomes_sound(False)
            here.keeper.missed()
            await asyncio.sleep(0.3)
            await here.js.delete_stream("THEIRS")
            here.keeper.missed()
            await here.becomes_sound(True)
        assert [line["event"] for line in lines].count("broker.trouble") == 1


async def test_a_stream_that_was_given_more_room_is_left_so(settings: Settings) -> None:
    """It works: that the next start would refuse it is told, once, and is no trouble now."""
    async with kept(settings) as here:
        with capture_logs() as lines:
            config = (await here.js.stream_info("HEADRACE_RESULTS")).config
            await here.js.update_stream(config.evolve(max_bytes=2 * settings.queues.result_max_bytes))
            await here.js.delete_stream("HEADRACE_DEAD")
            here.keeper.missed()
            await here.has("HEADRACE_DEAD")
            here.keeper.missed()
            await asyncio.sleep(0.5)
        assert [line["event"] for line in lines].count("broker.layout_differs") == 1
        assert here.health.sound
        assert (await here.js.stream_info("HEADRACE_RESULTS")).config.max_bytes == 2 * (
            settings.queues.result_max_bytes
        )


def _state(link: Link) -> LinkState:
    return LinkState(link=link, since_s=0.0)


async def test_health_is_the_connection_and_the_troubles() -> None:
    """Sound is what is connected and has none; each trouble ends on its own; each change is told, once."""
    told: list[bool] = []
    health = NatsHealth(lambda: told.append(health.sound))
    health.record(_state(Link.CONNECTED))
    health.trouble("results", "full")
    health.trouble("results", "full")
    health.trouble("layout", "gone")
    health.fine("results")
    health.fine("layout")
    health.record(_state(Link.DISCONNECTED))
    health.record(_state(Link.CONNECTED))
    assert told == [True, False, False, False, True, False, True]
    assert health.connections == 2


async def test_a_trouble_that_only_a_use_would_end_ends_by_itself() -> None:
    """And a new one of its kind begins its time anew."""
    ended = asyncio.Event()
    health = NatsHealth(lambda: ended.set() if health.sound else None)
    health.record(_state(Link.CONNECTED))
    health.trouble("requests", "full", for_s=0.05)
    health.trouble("requests", "full", for_s=0.3)
    assert not health.sound
    ended.clear()
    await asyncio.sleep(0.1)
    assert not health.sound
    await asyncio.wait_for(ended.wait(), LIMIT_S)


async def test_who_waits_for_a_connection_waits_through_an_outage() -> None:
    health = NatsHealth()
    health.record(_state(Link.CONNECTED))
    await asyncio.wait_for(health.wait_connected(), 1)
    health.record(_state(Link.DISCONNECTED))
    waiting = asyncio.create_task(health.wait_connected())
    await asyncio.sleep(0)
    assert not waiting.done()
    health.record(_state(Link.CONNECTED))
    await asyncio.wait_for(waiting, 1)
