"""This router among the members: the address to dial, in the KV bucket whose entries die with their owners."""

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


async def stay_member(
    js: JetStreamContext,
    router_id: str,
    address: str,
    *,
    ttl_s: float,
    health: NatsHealth,
    missed: Callable[[], None],
) -> None:
    """Reports until cancelled, then signs off. `missed` is called where the bucket is not there."""
    subject = f"$KV.{MEMBERS_BUCKET}.router.{router_id}"
    entry = json.dumps({"id": router_id, "address": address, "started": time.time()}).encode()
    every_s = ttl_s / PARTS
    backoff = Backoff(min(FIRST_RETRY_S, every_s), every_s)
    told = ""
    try:
        while True:
            await health.wait_connected()  # a report that waits to be sent would come too late
            problem = await _report(js, subject, entry, missed)
            if problem and problem != told:
                log.warning("members.not_reported", problem=problem)
            told = problem
            if problem:
                await asyncio.sleep(backoff.next_s())
            else:
                backoff.reset()
                await asyncio.sleep(every_s)
    finally:
        with suppress(NatsError, TimeoutError):
            async with asyncio.timeout(1.0):  # a courtesy: the entry dies by itself
                await js.publish(subject, b"", headers={"KV-Operation": "DEL"})


async def _report(js: JetStreamContext, subject: str, entry: bytes, missed: Callable[[], None]) -> str:
    """What was wrong, or nothing."""
    try:
        await js.publish(subject, entry)
    except (NatsError, TimeoutError, OSError) as error:
        if may_lack_stream(error):
            missed()
        return type(error).__name__
    return ""
