"""A part of a KV bucket, as it is now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from headrace.contract.errors import Unavailable
from headrace.contract.subjects import MODELS_BUCKET
from headrace.runtime.kv_view import KvView, read_bucket, write_key
from headrace.runtime.nats_layout import ensure_layout
from headrace.runtime.nats_server import EmbeddedNats


@pytest.fixture
async def nc(fresh_nats: EmbeddedNats, settings_for: Any) -> AsyncIterator[Client]:
    client = await nats.connect(fresh_nats.url)
    await ensure_layout(client, settings_for(fresh_nats))
    yield client
    await client.close()


class Watched:
    """A view that runs, and its changes."""

    def __init__(self, nc: Client, *prefixes: str) -> None:
        self.changed = asyncio.Event()
        self.view = KvView(nc, MODELS_BUCKET, *prefixes, on_change=self.changed.set)
        self.task = asyncio.create_task(self.view.run())

    async def until(self, values: dict[str, bytes]) -> None:
        async with asyncio.timeout(5):
            while self.view.values != values:
                self.changed.clear()
                await self.changed.wait()

    async def end(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


async def test_it_has_what_was_there_and_what_comes(nc: Client) -> None:
    """Values of its prefixes alone, and none that was deleted."""
    await write_key(nc, MODELS_BUCKET, "deploy.a", b"1")
    await write_key(nc, MODELS_BUCKET, "deploy.gone", b"1")
    await write_key(nc, MODELS_BUCKET, "deploy.gone", None)
    await write_key(nc, MODELS_BUCKET, "alias.a", b"1")
    watched = Watched(nc, "deploy.", "node.")
    await watched.until({"deploy.a": b"1"})
    await write_key(nc, MODELS_BUCKET, "node.b", b"2")
    await write_key(nc, MODELS_BUCKET, "deploy.a", b"3")
    await write_key(nc, MODELS_BUCKET, "alias.b", b"1")
    await watched.until({"deploy.a": b"3", "node.b": b"2"})
    await write_key(nc, MODELS_BUCKET, "deploy.a", None)
    await watched.until({"node.b": b"2"})
    await watched.end()
    assert await read_bucket(nc, MODELS_BUCKET, "node.") == {"node.b": b"2"}


async def test_what_was_missed_is_read_on_a_new_connection(nc: Client) -> None:
    """Values that nobody told of are found when it is asked to read anew."""
    watched = Watched(nc, "deploy.")
    await watched.until({})
    async with asyncio.timeout(5):
        await watched.view.read.wait()
    watched.view.values["deploy.lost"] = b"a delete that was missed"
    watched.view.renew()
    await watched.until({})
    await watched.end()


async def test_a_bucket_that_is_not_there_is_unavailable(fresh_nats: EmbeddedNats) -> None:
    """Reading and writing say so, and a view that had values keeps them: nothing is known to have gone."""
    client = await nats.connect(fresh_nats.url)
    with pytest.raises(Unavailable):
        await read_bucket(client, MODELS_BUCKET, "deploy.")
    with pytest.raises(Unavailable):
        await write_key(client, MODELS_BUCKET, "deploy.a", b"1")
    watched = Watched(client, "deploy.")
    watched.view.values["deploy.a"] = b"1"
    watched.view.renew()
    await asyncio.sleep(0)
    await watched.end()
    assert watched.view.values == {"deploy.a": b"1"}
    await client.close()
