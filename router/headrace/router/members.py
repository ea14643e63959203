"""This router among the members: the address to dial, in the KV bucket whose entries die with their owners."""

from __future__ import annotations

import asyncio
import json
import time

import structlog
from nats.errors import Error as NatsError
from nats.js.kv import KeyValue

log = structlog.get_logger(__name__)

PARTS = 3
"""Reports per time to live: one that is lost does no harm."""


async def stay_member(bucket: KeyValue, router_id: str, address: str, ttl_s: float) -> None:
    """Reports until cancelled, then signs off."""
    key = f"router.{router_id}"
    entry = json.dumps({"id": router_id, "address": address, "started": time.time()}).encode()
    try:
        while True:
            try:
                await bucket.put(key, entry)
            except (NatsError, TimeoutError) as error:
                log.warning("members.not_reported", problem=type(error).__name__)
            await asyncio.sleep(ttl_s / PARTS)
    finally:
        try:
            async with asyncio.timeout(1.0):  # a courtesy: the entry dies by itself
                await bucket.delete(key)
        except (NatsError, TimeoutError):
            pass
