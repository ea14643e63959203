"""Which of several routers leads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from headrace.router.lead import Lead
from headrace.runtime.nats_layout import ensure_layout
from headrace.runtime.nats_server import EmbeddedNats

TTL_S = 1.0


@pytest.fixture
async def nc(fresh_nats: EmbeddedNats, settings_for: Any) -> AsyncIterator[Client]:
    client = await nats.connect(fresh_nats.url)
    await ensure_layout(client, settings_for(fresh_nats, **{"nats.member_ttl_s": TTL_S}))
    yield client
    await client.close()


async def test_one_leads_until_it_leaves(nc: Client) -> None:
    """Of those that try, one; again and again the same; the next one when it says so."""
    leads = [Lead(nc, name, "placer", ttl_s=TTL_S) for name in ("r-1", "r-2", "r-3")]
    assert sum(await asyncio.gather(*(lead.hold({}) for lead in leads))) == 1
    (first,) = (lead for lead in leads if lead.held)
    others = [lead for lead in leads if lead is not first]
    assert await first.hold({"m": "no room"})
    assert not any([await other.hold({}) for other in others])
    await first.leave()
    assert await others[0].hold({})
    assert not await first.hold({})


async def test_when_it_dies_another_leads_by_the_age_of_its_key(nc: Client) -> None:
    """Nobody tells: the key goes."""
    dead, living = Lead(nc, "r-1", "placer", ttl_s=TTL_S), Lead(nc, "r-2", "placer", ttl_s=TTL_S)
    assert await dead.hold({})
    async with asyncio.timeout(10):
        while not await living.hold({}):  # noqa: ASYNC110 — a key that goes by its age tells nobody
            await asyncio.sleep(0.05)
    assert not await dead.hold({"it": "wakes"})


async def test_it_comes_back_to_its_own_key(nc: Client) -> None:
    """A router whose word was stored, and its answer lost, still leads."""
    lead = Lead(nc, "r-1", "placer", ttl_s=TTL_S)
    assert await lead.hold({})
    lead._number = 0
    assert await lead.hold({"something": "new"})
