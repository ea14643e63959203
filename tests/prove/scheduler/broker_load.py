"""Requests put straight into the broker's queues, as many as wanted, and the count of those that were answered."""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Any, Self

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from headrace.contract.ids import new_request_id
from headrace.contract.subjects import HEADER_REQUEST_ID, REQUESTS_STREAM, RESULTS_WILDCARD, Queue
from headrace.contract.values import Priority

PROMPT = "a few words"
"""More than a token, or it would be decoded alone."""
PENDING_BYTES = 64 * 1024 * 1024
TOGETHER = 500
"""Published before the broker is waited for."""


class BrokerLoad:
    """A producer of many queues, as `async with`. `answered` counts outcomes by tenant; writer: the subscription."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Client | None = None
        self._heard = asyncio.Event()
        self.answered: dict[str, int] = {}
        self._published = 0

    async def publish(self, model: str, tenant: str, count: int, tokens: int) -> None:
        """Puts `count` requests of normal priority into the queue of `tenant`."""
        assert self._connection is not None
        subject = Queue(model=model, priority=Priority.NORMAL, tenant=tenant).subject
        body = {"prompt": PROMPT, "max_tokens": tokens, "sampling": {"ignore_end": True}}
        for number in range(count):
            request_id = new_request_id()
            await self._connection.publish(
                subject,
                json.dumps({**body, "id": request_id}).encode(),
                headers={HEADER_REQUEST_ID: request_id},
            )
            self._published += 1
            if number % TOGETHER == TOGETHER - 1:
                await self._connection.flush(30)
        await self._connection.flush(30)

    async def all_stored(self) -> None:
        """Returns when the broker has stored all that was published: it takes more at once than it stores."""
        assert self._connection is not None
        js = self._connection.jetstream()
        while (await js.stream_info(REQUESTS_STREAM)).state.last_seq < self._published:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def waiting(self) -> int:
        """Requests in the broker, those that run included."""
        assert self._connection is not None
        info = await self._connection.jetstream().stream_info(REQUESTS_STREAM)
        return int(info.state.messages)

    async def hold(self, model: str, tenant: str, outstanding: int, tokens: int) -> None:
        """Keeps so many of a tenant unanswered, until cancelled."""
        published = 0
        while True:
            self._heard.clear()
            if (missing := outstanding - published + self.answered.get(tenant, 0)) > 0:
                await self.publish(model, tenant, missing, tokens)
                published += missing
            await self._heard.wait()

    async def all_answered(self, count: int, prefix: str, limit_s: float) -> None:
        """Returns when tenants whose names begin with `prefix` have had `count` answers."""
        async with asyncio.timeout(limit_s):
            while sum(n for tenant, n in self.answered.items() if tenant.startswith(prefix)) < count:
                self._heard.clear()
                await self._heard.wait()

    async def __aenter__(self) -> Self:
        self._connection = await nats.connect(self._url, pending_size=PENDING_BYTES)
        await self._connection.subscribe(RESULTS_WILDCARD, cb=self._on_result)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _on_result(self, message: Msg) -> Any:
        tenant = message.subject.split(".")[3]
        self.answered[tenant] = self.answered.get(tenant, 0) + 1
        self._heard.set()
