"""This router among the members: its entry in the KV bucket whose entries die with their owners.

{"id": …, "address": "host:port to dial", "started": Unix time, "models": [those it has lanes for], "draining": …,
 "metrics": "host:port for Prometheus"}
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from headrace.contract.subjects import MEMBERS_BUCKET
from headrace.runtime.backoff import Backoff
from headrace.runtime.nats_refusal import may_lack_stream
from headrace.runtime.nats_state import NatsHealth

log = structlog.get_logger(__name__)

PARTS = 3
"""Reports per time to live: one that is lost does no harm."""
FIRST_RETRY_S = 0.1
"""After a report that failed; doubled, up to the time between reports."""


class Membership:
    """Reports this router: at once where what it serves has changed, and often enough to stay known."""

    def __init__(
        self,
        router_id: str,
        *,
        served: Callable[[], frozenset[str]],
        ttl_s: float,
        health: NatsHealth,
        missed: Callable[[], None],
        metrics: str = "",
    ) -> None:
        """`served` gives the models that it has lanes for; `missed` is called where the bucket is not there."""
        self._router_id = router_id
        self._served = served
        self._every_s = ttl_s / PARTS
        self._health = health
        self._missed = missed
        self._metrics = metrics
        self._started_s = time.time()
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

    async def stay(self, js: JetStreamContext, address: str) -> None:
        """Reports until cancelled, then signs off."""
        subject = f"$KV.{MEMBERS_BUCKET}.router.{self._router_id}"
        backoff = Backoff(min(FIRST_RETRY_S, self._every_s), self._every_s)
        told = ""
        try:
            while True:
                await self._health.wait_connected()  # a report that waits to be sent would come too late
                self._changed.clear()
                problem = await self._report(js, subject, self._entry(address))
                if problem and problem != told:
                    log.warning("members.not_reported", problem=problem)
                told = problem
                if problem:
                    await asyncio.sleep(backoff.next_s())
                else:
                    backoff.reset()
                    await self._changed_within(self._every_s)
        finally:
            with suppress(NatsError, TimeoutError):
                async with asyncio.timeout(1.0):  # a courtesy: the entry dies by itself
                    await js.publish(subject, b"", headers={"KV-Operation": "DEL"})

    def _entry(self, address: str) -> bytes:
        self._reported = self._served()
        entry = {
            "id": self._router_id,
            "address": address,
            "started": self._started_s,
            "models": sorted(self._reported),
            "draining": self._draining,
            "metrics": self._metrics,
        }
        return json.dumps(entry).encode()

    async def _report(self, js: JetStreamContext, subject: str, entry: bytes) -> str:
        """What was wrong, or nothing."""
        try:
            await js.publish(subject, entry)
        except (NatsError, TimeoutError, OSError) as error:
            if may_lack_stream(error):
                self._missed()
            return type(error).__name__
        return ""

    async def _changed_within(self, limit_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._changed.wait()
