"""What stands in a part of a KV bucket, now and after each change.

A change is heard on the key's subject, and says only that it is time to read: so there is one way in which values come,
and none is older than one that came before it. Nor is a value taken that the broker refused: who listens hears it like
any other. A change is heard before it is stored, so that one look may come too early. A look every few seconds finds
what nobody heard of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from headrace.contract.errors import Unavailable
from headrace.runtime.bucket import Bucket, Entry

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 5.0
"""For what was not heard, as while the connection was away: two small questions, and one more for each key."""

AGAIN_S = (0.05, 0.2, 1.0)
"""Before each of the looks that follow on the one at once, where a change was heard: a broker stores it in
milliseconds, a cluster that chooses a leader in about a second."""

FIRST_RETRY_S = 0.2
"""After a first look that failed: whoever waits for it cannot begin without."""


class BucketWatch:
    """The keys of `bucket` that begin with `prefix`. `act` is called with all of them whenever one has changed."""

    def __init__(
        self, connection: Client, bucket: str, prefix: str, act: Callable[[Mapping[str, Entry]], None]
    ) -> None:
        """`prefix` ends with a dot."""
        self._connection = connection
        self._bucket = Bucket(connection.jetstream(), bucket)
        self._prefix = prefix
        self._act = act
        self._seen: dict[str, int] | None = None
        """The revisions of the last look."""
        self._look_now = asyncio.Event()
        self._problem = ""

    async def listen(self) -> None:
        """Hears of changes from now on, and returns when it has read what is there, however long that takes. The
        subscription ends with the connection.
        """
        await self._connection.subscribe(f"{self._bucket.prefix}{self._prefix}>", cb=self._on_change)
        while True:
            await self._look()
            if self._seen is not None:
                return
            await asyncio.sleep(FIRST_RETRY_S)

    async def run(self) -> None:
        """Reads what changes, until cancelled."""
        pauses = iter(AGAIN_S)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(next(pauses, LOOK_EVERY_S)):
                    await self._look_now.wait()
            if self._look_now.is_set():
                self._look_now.clear()
                pauses = iter(AGAIN_S)
            if self._connection.is_connected:
                await self._look()

    async def _on_change(self, message: Msg) -> None:
        self._look_now.set()

    async def _look(self) -> None:
        try:
            found = await self._bucket.read_all(self._prefix)
        except Unavailable as error:
            if error.problem != self._problem:  # said once, however often it is tried
                log.warning("bucket.not_read", keys=f"{self._prefix}>", problem=error.problem)
            self._problem = error.problem
            return
        self._problem = ""
        revisions = {key: entry.revision for key, entry in found.items()}
        if revisions != self._seen:
            self._seen = revisions
            self._act(found)
