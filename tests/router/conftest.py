"""A whole router on a real nats-server, with the fake model, for tests that play its peers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerInfo

from headrace.contract.ids import new_request_id
from headrace.contract.queue_wire import decode_result, encode_request
from headrace.contract.requests import Request
from headrace.contract.subjects import (
    CONTENT_TYPE_PROTOBUF,
    HEADER_CONTENT_TYPE,
    HEADER_REQUEST_ID,
    MEMBERS_BUCKET,
    REQUESTS_STREAM,
    RESULTS_STREAM,
    Queue,
    result_subject,
)
from headrace.contract.values import Outcome, Priority
from headrace.contract.work import ServedModel
from headrace.models.fake import install_fake_model
from headrace.models.store import ModelStore
from headrace.router.app import run
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.settings import NatsSettings
from headrace.runtime.settings_docs import env_name
from headrace.runtime.shutdown import Shutdown


@dataclass
class Mesh:
    """The broker and a router on it."""

    nats: Client
    model: ServedModel
    start_router: Callable[..., Awaitable[RunningRouter]]
    """`start_router("r-1", **{"router.max_held": 1})`: a router in this process, with other settings than usual."""
    start_process: Callable[[str], Awaitable[RouterProcess]]
    """A router as a process of its own."""
    server: EmbeddedNats
    store: Path
    """Of the broker."""

    async def publish(self, request: Request) -> None:
        """As the gateway does."""
        queue = Queue(model=request.model, priority=request.priority, tenant=request.tenant)
        headers = {HEADER_REQUEST_ID: request.id, HEADER_CONTENT_TYPE: CONTENT_TYPE_PROTOBUF}
        await self.nats.jetstream().publish(queue.subject, encode_request(request), headers=headers)

    async def publish_json(self, subject: str, body: dict[str, Any], **headers: str) -> None:
        """As a producer with nothing but a NATS client does."""
        await self.nats.jetstream().publish(subject, json.dumps(body).encode(), headers=headers or None)

    async def queues_are_empty(self) -> None:
        """Returns when no message is left; JetStream tells of no deletion, so it is asked."""
        async with asyncio.timeout(5):
            while (await self.nats.jetstream().stream_info(REQUESTS_STREAM)).state.messages:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def held(self, count: int) -> None:
        """Returns when routers hold so many messages."""
        async with asyncio.timeout(5):
            while sum(each.num_ack_pending or 0 for each in await self._consumers()) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.05)  # from the router's socket into its core

    async def _consumers(self) -> list[ConsumerInfo]:
        return await self.nats.jetstream().consumers_info(REQUESTS_STREAM)

    async def restart_nats(self, *, away_s: float) -> None:
        """The broker goes, and comes back at the same address with what it had stored."""
        port = urlsplit(self.server.url).port
        assert port is not None
        self.server.stop()
        await asyncio.sleep(away_s)
        self.server = EmbeddedNats(NatsSettings(port=port, store_dir=self.store))
        self.server.start()

    async def result(self, request: Request) -> Outcome:
        """The durable outcome of a request, when it is there."""
        subject = result_subject(request.tenant, request.id)
        subscription = await self.nats.jetstream().subscribe(
            subject, stream=RESULTS_STREAM, ordered_consumer=True
        )
        try:
            message = await subscription.next_msg(timeout=10)
        finally:
            await subscription.unsubscribe()
        return decode_result(message.data, (message.headers or {})[HEADER_CONTENT_TYPE])


@dataclass
class RunningRouter:
    """A router, and how to end it."""

    address: str
    shutdown: Shutdown
    task: asyncio.Task[None]

    async def stop(self) -> None:
        self.shutdown.request("end of the test")
        async with asyncio.timeout(20):
            await self.task

    async def kill(self) -> None:
        """As SIGKILL would: nothing is given back."""
        self.task.cancel()
        await asyncio.wait([self.task])


@dataclass
class RouterProcess:
    """A router that can be made to stand still."""

    address: str
    process: asyncio.subprocess.Process

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


def a_request(**changes: Any) -> Request:
    """A request as a gateway would publish it."""
    base = Request(
        id=new_request_id(),
        tenant="default",
        model="fake",
        priority=Priority.NORMAL,
        prompt="hello",
        max_tokens=20,
    )
    return replace(base, **changes)


SETTINGS = {
    "router.port": 0,
    "router.ack_wait_s": 1.0,
    "router.drain_grace_s": 1.0,
    "router.worker_timeout_s": 1.5,
}


@pytest.fixture
async def mesh(fresh_nats: EmbeddedNats, settings_for: Any, tmp_path: Path) -> AsyncIterator[Mesh]:
    """A broker with a client, and routers as the test starts them; all stopped at its end."""
    stored = install_fake_model(ModelStore(tmp_path / "models"))
    model = ServedModel(name="fake", version=stored.manifest.version, compute_type="none")
    async with AsyncExitStack() as stack:
        client = await nats.connect(fresh_nats.url)
        stack.push_async_callback(client.close)

        async def start(router_id: str, **others: object) -> RunningRouter:
            own = {"router.id": router_id, "models": tmp_path / "models"}
            settings = settings_for(fresh_nats, **{**SETTINGS, **own, **others})
            shutdown = Shutdown(signals=())
            task = asyncio.create_task(run(settings, shutdown), name=router_id)
            router = RunningRouter(await _address(client, router_id, task), shutdown, task)
            stack.push_async_callback(_end, router)
            return router

        async def start_process(router_id: str) -> RouterProcess:
            own = {"nats.url": fresh_nats.url, "router.id": router_id, "models": tmp_path / "models"}
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "headrace.cli", "router"),
                env={
                    **os.environ,
                    **{env_name(key): str(value) for key, value in {**SETTINGS, **own}.items()},
                },
            )
            ended = asyncio.ensure_future(process.wait())
            address = await _address(client, router_id, ended)
            router = RouterProcess(address, process)
            stack.push_async_callback(router.end)
            return router

        mesh = Mesh(
            nats=client,
            model=model,
            start_router=start,
            start_process=start_process,
            server=fresh_nats,
            store=tmp_path / "nats",
        )
        yield mesh
    if mesh.server is not fresh_nats:
        mesh.server.stop()


async def _end(router: RunningRouter) -> None:
    if not router.task.done():
        await router.stop()


async def _address(client: Client, router_id: str, task: asyncio.Future[Any]) -> str:
    """Waits for the router's entry among the members."""

    async def watch() -> str:
        while True:
            try:
                bucket = await client.jetstream().key_value(MEMBERS_BUCKET)
            except nats.js.errors.NotFoundError:
                await asyncio.sleep(0.02)  # the router makes the bucket
                continue
            break
        watcher = await bucket.watch(f"router.{router_id}")
        async for entry in watcher:
            if entry is not None and entry.value:
                return str(json.loads(entry.value)["address"])
        raise AssertionError("the watch ended")

    watching = asyncio.ensure_future(watch())
    done, _ = await asyncio.wait({watching, task}, timeout=15, return_when=asyncio.FIRST_COMPLETED)
    if task in done:
        watching.cancel()
        task.result()
    assert watching in done, "the router did not become a member in time"
    return watching.result()
