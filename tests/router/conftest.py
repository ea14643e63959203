"""A whole router on a real nats-server, with the fake model, for tests that play its peers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from headrace.contract.ids import new_request_id
from headrace.contract.queue_wire import decode_result, encode_request
from headrace.contract.requests import Request
from headrace.contract.subjects import (
    CONTENT_TYPE_PROTOBUF,
    HEADER_CONTENT_TYPE,
    HEADER_REQUEST_ID,
    MEMBERS_BUCKET,
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
from headrace.runtime.shutdown import Shutdown


@dataclass
class Mesh:
    """The broker and a router on it."""

    nats: Client
    model: ServedModel
    start_router: Callable[[str], Awaitable[RunningRouter]]

    async def publish(self, request: Request) -> None:
        """As the gateway does."""
        queue = Queue(model=request.model, priority=request.priority, tenant=request.tenant)
        headers = {HEADER_REQUEST_ID: request.id, HEADER_CONTENT_TYPE: CONTENT_TYPE_PROTOBUF}
        await self.nats.jetstream().publish(queue.subject, encode_request(request), headers=headers)

    async def publish_json(self, subject: str, body: dict[str, Any], **headers: str) -> None:
        """As a producer with nothing but a NATS client does."""
        await self.nats.jetstream().publish(subject, json.dumps(body).encode(), headers=headers or None)

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


@pytest.fixture
async def mesh(fresh_nats: EmbeddedNats, settings_for: Any, tmp_path: Path) -> AsyncIterator[Mesh]:
    """A broker with a client, and routers as the test starts them; all stopped at its end."""
    stored = install_fake_model(ModelStore(tmp_path / "models"))
    model = ServedModel(name="fake", version=stored.manifest.version, compute_type="none")
    async with AsyncExitStack() as stack:
        client = await nats.connect(fresh_nats.url)
        stack.push_async_callback(client.close)

        async def start(router_id: str) -> RunningRouter:
            settings = settings_for(
                fresh_nats,
                **{
                    "router.port": 0,
                    "router.id": router_id,
                    "router.ack_wait_s": 1.0,
                    "router.drain_grace_s": 1.0,
                    "router.worker_timeout_s": 1.5,
                    "models": tmp_path / "models",
                },
            )
            shutdown = Shutdown(signals=())
            task = asyncio.create_task(run(settings, shutdown), name=router_id)
            router = RunningRouter(await _address(client, router_id, task), shutdown, task)
            stack.push_async_callback(_end, router)
            return router

        yield Mesh(nats=client, model=model, start_router=start)


async def _end(router: RunningRouter) -> None:
    if not router.task.done():
        await router.stop()


async def _address(client: Client, router_id: str, task: asyncio.Task[None]) -> str:
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
