"""This gateway among the members: its entry in the KV bucket whose entries die with their owners.

{"id": …, "address": "host:port to dial", "started": Unix time, "draining": …, "metrics": "host:port for Prometheus"}
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress

from nats.aio.client import Client
from nats.errors import Error as NatsError

from headrace.contract.admin import Member
from headrace.contract.subjects import MEMBERS_BUCKET

PARTS = 3
"""Reports per time to live: one that is lost does no harm."""


class Membership:
    """Reports what this gateway is: at once where that changed, and often enough to stay known.

    Nobody confirms a report: the next one follows soon, and whoever listens hears it without the bucket.
    """

    def __init__(self, nc: Client, *, ttl_s: float) -> None:
        self._nc = nc
        self._ttl_s = ttl_s
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """There is something new to report."""
        self._changed.set()

    async def stay(self, itself: Callable[[], Member]) -> None:
        """Reports until cancelled, then signs off."""
        subject = f"$KV.{MEMBERS_BUCKET}.gateway.{itself().id}"
        try:
            while True:
                self._changed.clear()
                await self._say(subject, _entry(itself()))
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._ttl_s / PARTS):
                        await self._changed.wait()
        finally:
            await self._say(subject, b"", {"KV-Operation": "DEL"})

    async def _say(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        # Without a connection it would be said when it is true no more; the connection tells of its loss itself.
        if self._nc.is_connected:
            with suppress(NatsError):
                await self._nc.publish(subject, body, headers=headers)


def _entry(itself: Member) -> bytes:
    fields = {
        "id": itself.id,
        "address": itself.address,
        "started": itself.started_s,
        "draining": itself.draining,
        "metrics": itself.metrics,
    }
    return json.dumps(fields).encode()
