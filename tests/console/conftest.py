"""A console on a real nats-server, and what a browser without a screen would ask it."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from headrace.console import app as console_app
from headrace.contract.state_wire import encode_state
from headrace.contract.subjects import STATE_ASK, state_subject
from headrace.runtime.nats_flush import flushed
from headrace.runtime.nats_layout import ensure_layout
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.settings import load_settings
from headrace.runtime.shutdown import Shutdown
from tests.console.crowd import Crowd
from tests.ports import free_ports

LIMIT_S = 30.0
TOKEN = "an-operator-of-the-test"


@dataclass
class Answer:
    """What the console said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Console:
    """A console that runs."""

    port: int
    nats: Client
    settings: Any
    crowd: Crowd = field(default_factory=lambda: Crowd(workers=3, queues=8))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ask(self, path: str, *, token: str = "", method: str = "GET", **headers: str) -> Answer:
        """One request; `token` makes it an operator's."""
        if token:
            headers["authorization"] = f"Bearer {token}"
        return await asyncio.to_thread(_ask, self.url + path, method, headers)

    async def show(self) -> None:
        """The routers of the crowd show themselves once."""
        for state in self.crowd.step():
            await self.nats.publish(state_subject(state.router), encode_state(state))
        await flushed(self.nats)

    async def state(self) -> Any:
        """All rows."""
        return (await self.ask("/api/state")).json["state"]["rows"]

    async def until(self, holds: Any) -> Any:
        """The first state of which `holds(rows)` is true, each made after another show."""
        async with asyncio.timeout(LIMIT_S), events(self) as stream:
            rows: dict[str, dict[str, Any]] = {}
            async for event in stream:
                state = event["state"]
                for table, changed in state["rows"].items():
                    rows.setdefault(table, {}).update(changed)
                for table, keys in state["gone"].items():
                    for key in keys:
                        rows[table].pop(key, None)
                if holds(rows):
                    return rows
                await self.show()
        raise AssertionError("the stream ended")


def _ask(url: str, method: str, headers: dict[str, str]) -> Answer:
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
            return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


@asynccontextmanager
async def events(console: Console) -> AsyncIterator[AsyncIterator[Any]]:
    """The events of one page, as they come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", console.port, limit=16 * 1024 * 1024)
    writer.write(b"GET /api/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")

    async def read() -> AsyncIterator[Any]:
        while line := await reader.readline():
            if line.startswith(b"data: "):
                yield json.loads(line[6:])

    try:
        yield read()
    finally:
        writer.close()


@asynccontextmanager
async def running_console(nats_url: str, **overrides: object) -> AsyncIterator[Console]:
    """A console in this process."""
    (port,) = free_ports(1)
    settings = load_settings(
        {"nats.url": nats_url, "console.port": port, "console.token": TOKEN, **overrides}, environ={}
    )
    nc = await nats.connect(nats_url)
    shutdown = Shutdown(signals=())
    task = asyncio.create_task(console_app.run(settings, shutdown))
    try:
        await _listens(port, task)
        yield Console(port=port, nats=nc, settings=settings)
    finally:
        shutdown.request("the test is over")
        async with asyncio.timeout(LIMIT_S):
            await task
        await nc.close()


async def _listens(port: int, task: asyncio.Task[None]) -> None:
    """Returns when somebody takes connections there; nothing tells of that."""
    async with asyncio.timeout(LIMIT_S):
        while not task.done():
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
    await task


@pytest.fixture
async def console(fresh_nats: EmbeddedNats) -> AsyncIterator[Console]:
    """A console that has heard of nobody yet, on a broker with Headrace's streams."""
    nc = await nats.connect(fresh_nats.url)
    asked = await nc.subscribe(STATE_ASK)
    await ensure_layout(nc, load_settings({"nats.url": fresh_nats.url}, environ={}))
    async with running_console(fresh_nats.url) as running:
        await asked.next_msg(LIMIT_S)  # it listens before it asks
        yield running
    await nc.close()
