"""Who else is there, from the reports of routers on a real broker."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import nats
import pytest
from nats.aio.client import Client

from headrace.contract.work import Peer
from headrace.router.peers import Peers, member_of
from headrace.runtime.nats_server import EmbeddedNats

pytestmark = pytest.mark.integration

TTL_S = 0.5


class Watched:
    """Peers of the router `me`, and when they changed."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.changed = asyncio.Event()
        self.peers = Peers(client, "me", ttl_s=TTL_S, act=self.changed.set)

    async def report(self, router_id: str, **fields: object) -> None:
        entry = {"id": router_id, "address": f"{router_id}:1", "started": 1.0, "models": [], **fields}
        await self.client.publish(f"$KV.headrace_members.router.{router_id}", json.dumps(entry).encode())

    async def until(self, come: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not come():
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def watched(fresh_nats: EmbeddedNats) -> AsyncIterator[Watched]:
    """With the router itself reporting."""
    client = await nats.connect(fresh_nats.url)
    one = Watched(client)
    await one.peers.listen()
    await one.report("me", models=["mine"])
    try:
        yield one
    finally:
        await client.close()


@asynccontextmanager
async def sweeping(peers: Peers) -> AsyncIterator[None]:
    running = asyncio.ensure_future(peers.run())
    try:
        yield
    finally:
        running.cancel()


async def test_others_are_those_that_report(watched: Watched) -> None:
    """With what they have lanes for; until they sign off."""
    peers = watched.peers
    await watched.until(lambda: bool(peers.living()))
    assert not peers.others()
    await watched.report("a", models=["m", "n"])
    await watched.until(lambda: bool(peers.others()))
    assert peers.models() == {"m", "n"}
    await watched.report("a", models=["m"])
    await watched.until(lambda: peers.models() == {"m"})
    await watched.client.publish("$KV.headrace_members.router.a", b"", headers={"KV-Operation": "DEL"})
    await watched.until(lambda: not peers.others())


async def test_one_that_falls_silent_is_forgotten(watched: Watched) -> None:
    """A dead router serves nothing."""
    await watched.report("a", models=["m"])
    await watched.until(lambda: bool(watched.peers.others()))
    async with sweeping(watched.peers):
        await watched.until(lambda: not watched.peers.others())
    assert watched.peers.models() == frozenset()


async def test_a_router_that_stood_still_forgets_nobody(watched: Watched) -> None:
    """It could not hear them: it has to ask them whose its requests are."""
    await watched.report("a")
    await watched.until(lambda: bool(watched.peers.others()))
    async with sweeping(watched.peers):
        await asyncio.sleep(0)
        time.sleep(2 * TTL_S)  # noqa: ASYNC251 — on its own event loop
        await asyncio.sleep(TTL_S / 4)
        assert watched.peers.others()


async def test_workers_are_sent_to_the_living(watched: Watched) -> None:
    """To the youngest at each address, and to none that leaves."""
    await watched.report("old", address="here:1", started=1.0)
    await watched.report("new", address="here:1", started=2.0)
    await watched.report("going", draining=True)
    await watched.until(lambda: len(watched.peers.living()) == 2)
    assert watched.peers.living() == (
        Peer(router_id="me", address="me:1"),
        Peer(router_id="new", address="here:1"),
    )


@pytest.mark.parametrize(
    ("router_id", "body"),
    [
        ("a", b""),
        ("a", b"[]"),
        ("a", b"\xff"),
        ("a", b'{"address": "x:1"}'),
        ("a", b'{"address": "x:1", "started": "soon"}'),
        ("a", b'{"address": "x:1", "started": 1, "models": 7}'),
        ("a b", b'{"address": "x:1", "started": 1}'),
        ("a", b"[" * 100_000),
    ],
)
def test_what_is_no_report_is_none(router_id: str, body: bytes) -> None:
    """Anybody may write to the bucket."""
    assert member_of(router_id, body) is None
