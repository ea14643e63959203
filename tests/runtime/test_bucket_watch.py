"""What stands in a part of a bucket: heard of, and read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from headrace.runtime.bucket import Entry
from headrace.runtime.bucket_watch import BucketWatch
from tests.nats_servers import START_S

OLD, NEW = Entry(value=b"old", revision=1), Entry(value=b"new", revision=2)


class SlowToStore:
    """A connection to a broker that tells of a change before it has stored it."""

    is_connected = True

    def __init__(self) -> None:
        self.heard: Any = None
        self.looks = 0
        self.changed_at: int | None = None

    def jetstream(self) -> None:
        """It is not asked: see `read_all`."""

    async def subscribe(self, subject: str, cb: Any) -> None:
        self.heard = cb

    async def read_all(self, prefix: str) -> dict[str, Entry]:
        self.looks += 1
        stored = self.changed_at is not None and self.looks > self.changed_at + 1  # not the look at once
        return {f"{prefix}a": NEW if stored else OLD}

    async def change(self) -> None:
        self.changed_at = self.looks
        await self.heard(None)


async def test_a_change_that_is_heard_before_it_is_stored_is_found_at_the_next_look() -> None:
    """The look that follows at once still reads the old value; nobody waits for the one every few seconds."""
    broker, seen = SlowToStore(), asyncio.Queue[Mapping[str, Entry]]()
    watch = BucketWatch(broker, "bucket", "p.", seen.put_nowait)  # type: ignore[arg-type]
    watch._bucket.read_all = broker.read_all  # type: ignore[method-assign]
    await watch.listen()
    assert seen.get_nowait() == {"p.a": OLD}
    running = asyncio.create_task(watch.run())
    try:
        await broker.change()
        async with asyncio.timeout(START_S):
            assert await seen.get() == {"p.a": NEW}
        assert broker.looks == 3, "the first, the early one, and the next"
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
