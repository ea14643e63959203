"""A prefill that nobody waits for any more: nothing interrupts it, and nothing else is put behind it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from headrace.client.admin import AdminClient
from headrace.client.client import HeadraceClient
from headrace.contract.admin import Member, MemberKind
from headrace.contract.errors import HeadraceError
from headrace.contract.values import OutcomeKind
from headrace.gateway import app as gateway_app
from headrace.models.fake import install_fake_model
from headrace.models.store import ModelStore
from headrace.router import app as router_app
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.settings import load_settings
from headrace.worker import app as worker_app
from headrace.worker.fake_engine import FakeEngine
from tests.integration.local_mesh import LIMIT_S, QUICK, running
from tests.ports import free_ports

pytestmark = pytest.mark.integration

LONG = 200
"""Tokens of a prompt whose prefill lasts until the test ends it."""


class Prefills:
    """The fake engines of this process: those of long prompts wait in their prefill."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began = threading.Event()
        self.over = threading.Event()
        self.long: list[FakeEngine] = []
        self.short: list[FakeEngine] = []
        """The engine of each batch, in the order in which they began."""
        run = FakeEngine.run

        def gated(engine: FakeEngine, prompts: Sequence[Sequence[int]], **how: Any) -> None:
            if len(prompts[0]) < LONG:
                self.short.append(engine)
            else:
                self.long.append(engine)
                self.began.set()
                assert self.over.wait(LIMIT_S)
            run(engine, prompts, **how)

        monkeypatch.setattr(FakeEngine, "run", gated)


async def workers_are(admin: AdminClient, router: str, busy_lanes: int) -> None:
    """Until two workers are at the router of that address, with so many busy lanes between them."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            members: tuple[Member, ...] = ()
            with suppress(HeadraceError):  # it may be starting
                members = await admin.members()
            ids = {one.id for one in members if one.address == router}
            there: list[Member] = [
                one for one in members if one.kind is MemberKind.WORKER and one.router in ids
            ]
            if len(there) == 2 and sum(one.busy_lanes for one in there) == busy_lanes:
                return
            await asyncio.sleep(0.02)  # a join has no event that an operator could wait for


async def test_nothing_is_put_behind_a_prefill_that_outlives_its_router(
    fresh_nats: EmbeddedNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request is cancelled in its prefill, and its router drains: at the next one all that comes runs on the other
    worker, until the prefill is over.
    """
    prefills = Prefills(monkeypatch)
    install_fake_model(ModelStore(tmp_path / "models"))
    first, second, gateway = (f"127.0.0.1:{port}" for port in free_ports(3))

    def part(app: Any, name: str, address: str = "") -> Any:
        own = {f"{name}.port": int(address.rpartition(":")[2])} if address else {}
        both = {
            "models": tmp_path / "models",
            "nats.url": fresh_nats.url,
            "worker.router": f"{first},{second}",
        }
        settings = load_settings(
            {**QUICK, **both, **own, "worker.lanes": 1, "worker.max_batch": 1}, environ={}
        )
        return running(app.run, settings)

    async with AsyncExitStack() as stack:
        drained = await stack.enter_async_context(AsyncExitStack())
        await drained.enter_async_context(part(router_app, "router", first))
        await stack.enter_async_context(part(gateway_app, "gateway", gateway))
        for _ in range(2):
            await stack.enter_async_context(part(worker_app, "worker"))
        stack.callback(prefills.over.set)  # first of all: a worker ends when its engine has
        client = await stack.enter_async_context(HeadraceClient(gateway))
        admin = await stack.enter_async_context(AdminClient(gateway))
        await workers_are(admin, first, busy_lanes=0)

        accepted = await client.submit(model="fake", prompt="a" * LONG, max_tokens=5)
        assert await asyncio.to_thread(prefills.began.wait, LIMIT_S)
        assert await client.cancel(accepted.request_id) is OutcomeKind.CANCELLED
        await workers_are(admin, first, busy_lanes=1)
        await ask_two(client)
        await stack.enter_async_context(part(router_app, "router", second))
        await drained.aclose()
        await workers_are(admin, second, busy_lanes=1)
        await ask_two(client)

        assert len(prefills.short) == 4
        assert prefills.long[0] not in prefills.short, "it still computes"
        prefills.over.set()
        await workers_are(admin, second, busy_lanes=0)


async def ask_two(client: HeadraceClient) -> None:
    """Two short requests at once, for two workers that each run one."""
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(*(client.complete(model="fake", prompt="short", max_tokens=2) for _ in range(2)))
