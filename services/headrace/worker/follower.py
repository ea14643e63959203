"""The worker's word with the broker: hears what it is to have, and reports how far it is.

Without a connection it keeps what it has; requests come from the router, which is another way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from headrace.contract.deployments import NODE, WORKER, Assigned, NodeReport
from headrace.contract.deployments_document import read_assigned, write_document
from headrace.contract.subjects import MEMBERS_BUCKET, MODELS_BUCKET
from headrace.runtime.kv_view import KvView
from headrace.runtime.nats_state import NatsHealth

log = structlog.get_logger(__name__)

PARTS = 3
"""Reports per time to live: one that is lost does no harm."""
CALM_S = 0.1
"""Between two reports of what changes fast."""


class Follower:
    """Runs on one connection until cancelled."""

    def __init__(
        self,
        connection: Client,
        node: str,
        *,
        ttl_s: float,
        health: NatsHealth,
        want: Callable[[Assigned], None],
        report: Callable[[], NodeReport],
    ) -> None:
        """`want` is called with what this node is to have, whenever that changes."""
        self._connection = connection
        self._key = f"{NODE}{node}"
        self._subject = f"$KV.{MEMBERS_BUCKET}.{WORKER}{node}"
        self._every_s = ttl_s / PARTS
        self._health = health
        self._want = want
        self._report = report
        self._view = KvView(connection, MODELS_BUCKET, NODE, on_change=self._changed)
        self._heard: bytes | None = b"-"
        self._news = asyncio.Event()

    def report_soon(self) -> None:
        """There is something to report."""
        self._news.set()

    async def run(self) -> None:
        """Follows until cancelled, and then signs off."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._view.run(), name="follower: view")
            tasks.create_task(self._renew(), name="follower: renew")
            tasks.create_task(self._tell(), name="follower: report")

    async def _renew(self) -> None:
        connections = self._health.connections
        async for _ in self._health.changes():
            if self._health.connections != connections:
                connections = self._health.connections
                self._view.renew()

    async def _tell(self) -> None:
        try:
            while True:
                await self._health.wait_connected()
                self._news.clear()
                await self._say(write_document(self._report()))
                await asyncio.sleep(CALM_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._every_s):
                        await self._news.wait()
        finally:
            await self._say(b"", {"KV-Operation": "DEL"})

    async def _say(self, body: bytes, headers: dict[str, str] | None = None) -> None:
        # Without a connection it would be said when it is true no more.
        if self._connection.is_connected:
            with suppress(NatsError):
                await self._connection.publish(self._subject, body, headers=headers)

    def _changed(self) -> None:
        body = self._view.values.get(self._key)
        if body == self._heard:
            return
        self._heard = body
        try:
            assigned = Assigned() if body is None else read_assigned(body)
        except ValueError as error:
            log.warning("node.assignment_malformed", problem=str(error))
            return
        log.info("node.assigned", models=[model.exact for model in assigned.models])
        self._want(assigned)
