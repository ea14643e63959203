"""What the broker holds at the end, read without the processes under test."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime

from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from headrace.contract.ids import derived_request_id
from headrace.contract.subjects import (
    DEAD_STREAM,
    HEADER_REQUEST_ID,
    REQUESTS_STREAM,
    RESULTS_STREAM,
    RESULTS_WILDCARD,
    SEEN_WILDCARD,
)
from headrace.runtime.nats_client import NatsClient

EMPTY_S = 90.0
"""Retries of what fails at every attempt included."""


@dataclass(slots=True)
class Accounts:
    """The outcomes and dead letters."""

    outcomes: set[str] = field(default_factory=set)
    """Request ids."""
    dead: set[int] = field(default_factory=set)
    """Places in the requests stream."""
    left: int = 0
    """Messages that are still queued."""


class Announced:
    """When the broker took each message, from its announcements: an id may follow from it."""

    def __init__(self) -> None:
        self.times_ms: dict[int, tuple[int, int]] = {}
        """By place: the two milliseconds that rounding may give."""

    async def listen(self, nc: NatsClient) -> None:
        await nc.subscribe(SEEN_WILDCARD, cb=self._hear)

    async def _hear(self, message: object) -> None:
        headers = getattr(message, "headers", None) or {}
        place, at = headers.get("Nats-Sequence", ""), headers.get("Nats-Time-Stamp", "")
        if place.isdigit() and at:
            at_ms = int(_unix_s(at) * 1000)
            self.times_ms[int(place)] = (at_ms, at_ms + 1)

    def ids(self, place: int) -> set[str]:
        return {derived_request_id(REQUESTS_STREAM, place, at_ms) for at_ms in self.times_ms.get(place, ())}


def _unix_s(text: str) -> float:
    """Of RFC 3339 with nanoseconds."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{fraction or 0}")


async def emptied(js: JetStreamContext) -> int:
    """Waits until nothing is queued any more; how many messages are left after all."""
    until_s = time.monotonic() + EMPTY_S
    while True:
        left = (await js.stream_info(REQUESTS_STREAM)).state.messages
        if not left or time.monotonic() > until_s:
            return left
        await asyncio.sleep(0.1)  # the stream has no event for it


async def read_accounts(js: JetStreamContext) -> Accounts:
    """Waits until nothing is queued, and reads the outcomes and the dead letters."""
    accounts = Accounts(left=await emptied(js))
    info = await js.stream_info(RESULTS_STREAM, subjects_filter=RESULTS_WILDCARD)
    accounts.outcomes = {subject.rpartition(".")[2] for subject in info.state.subjects or {}}
    accounts.dead = await _dead(js)
    return accounts


async def _dead(js: JetStreamContext) -> set[int]:
    total = (await js.stream_info(DEAD_STREAM)).state.messages
    reader = await js.pull_subscribe(
        "",
        stream=DEAD_STREAM,
        config=ConsumerConfig(
            ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL, headers_only=True, mem_storage=True
        ),
    )
    places: set[int] = set()
    read = 0
    while read < total:
        for message in await reader.fetch(min(500, total - read), timeout=10):
            read += 1
            stream, _, place = ((message.headers or {}).get(HEADER_REQUEST_ID) or "").partition("/")
            if (
                stream == REQUESTS_STREAM and place.isdigit()
            ):  # others are forged: producers can write there, too
                places.add(int(place))
    await reader.unsubscribe()
    return places
