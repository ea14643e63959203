"""This router among the members: its entry in the KV bucket whose entries die with their owners.

{"id": …, "address": "host:port to dial", "started": Unix time, "models": [those it has lanes for], "draining": …}
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import structlog
from nats.errors import Error as NatsError
from nats.js.kv import KeyValue

log = structlog.get_logger(__name__)

PARTS = 3
"""Reports per time to live: one that is lost does no harm."""


class Membership:
    """Reports this router: at once where what it serves has changed, and often enough to stay known."""

    def __init__(self, router_id: str, *, served: Callable[[], frozenset[str]]) -> None:
        self._router_id = router_id
        self._served = served
        self._draining = False
        self._changed = asyncio.Event()
        self._reported: frozenset[str] = frozenset()

    def fleet_changed(self) -> None:
        """Workers came or went: reports now, if that changed what this router serves."""
        if self._served() != self._reported:
            self._changed.set()

    def leave(self) -> None:
        """Nobody should come here any more."""
        self._draining = True
        self._changed.set()

    async def stay(self, bucket: KeyValue, address: str, ttl_s: float) -> None:
        """Reports until cancelled, then signs off."""
        key, started_s = f"router.{self._router_id}", time.time()
        try:
            while True:
                self._changed.clear()
                self._reported = self._served()
                entry = {
                    "id": self._router_id,
                    "address": address,
                    "started": started_s,
                    "models": sorted(self._reported),
                    "draining": self._draining,
                }
                try:
                    await bucket.put(key, json.dumps(entry).encode())
                except (NatsError, TimeoutError) as error:
                    log.warning("members.not_reported", problem=type(error).__name__)
                await self._changed_within(ttl_s / PARTS)
        finally:
            try:
                async with asyncio.timeout(1.0):  # a courtesy: the entry dies by itself
                    await bucket.delete(key)
            except (NatsError, TimeoutError):
                pass

    async def _changed_within(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self._changed.wait()
        except TimeoutError:
            pass
