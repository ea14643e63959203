"""A part of a KV bucket as it is now, kept up to date: read once, then heard of.

What is published on the bucket's subjects is heard as it happens, by an ordinary subscription; it is read anew at
each new connection, and now and then, as nobody says what was missed, or what went by its age.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import APIError, NotFoundError

from headrace.contract.errors import Unavailable

log = structlog.get_logger(__name__)

READ_EVERY_S = 15.0
"""For what was missed."""
RETRY_S = 1.0
"""After a reading that failed."""
_AT_ONCE = 32
"""Values that are asked for side by side."""
_GONE = frozenset({"DEL", "PURGE"})


class KvView:
    """The values of all keys that begin with one of `prefixes`. Used on the event loop alone."""

    def __init__(
        self, connection: Client, bucket: str, *prefixes: str, on_change: Callable[[], None] = lambda: None
    ) -> None:
        """`on_change` is called after each change, once it was read for the first time. A prefix ends with a dot."""
        self._connection = connection
        self._bucket = bucket
        self._prefixes = prefixes
        self._on_change = on_change
        self.values: dict[str, bytes] = {}
        self.heard_s: dict[str, float] = {}
        """When each was last said, by the loop's clock, or else read for the first time."""
        self.read = asyncio.Event()
        """Whether it was read once."""
        self._touched: set[str] = set()
        self._anew = asyncio.Event()

    def __repr__(self) -> str:
        return f"<KvView of {self._bucket}: {sorted(self.values)}>"

    def renew(self) -> None:
        """Reads it now: there is a new connection."""
        self._anew.set()

    async def run(self) -> None:
        """Keeps it up to date until cancelled."""
        heard = [
            await self._connection.subscribe(f"$KV.{self._bucket}.{prefix}>", cb=self._on_message)
            for prefix in self._prefixes
        ]
        try:
            told = ""
            while True:
                self._anew.clear()
                pause_s, problem = READ_EVERY_S, ""
                try:
                    await self._read()
                except Unavailable as error:
                    pause_s, problem = RETRY_S, error.problem
                if problem and problem != told:
                    log.warning("kv.not_read", bucket=self._bucket, problem=problem)
                told = problem
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._anew.wait()
        finally:
            for subscription in heard:
                with suppress(NatsError, OSError):  # a connection that is gone has no subscriptions
                    await subscription.unsubscribe()

    async def _read(self) -> None:
        self._touched.clear()
        found: dict[str, bytes] = {}
        for prefix in self._prefixes:
            found |= await read_bucket(self._connection, self._bucket, prefix)
        # What was said meanwhile is newer than what was read.
        kept = {key: value for key, value in self.values.items() if key in self._touched}
        read = {key: value for key, value in found.items() if key not in self._touched}
        first, changed = not self.read.is_set(), {**read, **kept} != self.values
        self.values = {**read, **kept}
        now_s = asyncio.get_running_loop().time()
        self.heard_s = {key: self.heard_s.get(key, now_s) for key in self.values}
        self.read.set()
        if first or changed:
            self._on_change()

    async def _on_message(self, message: Msg) -> None:
        key = message.subject.removeprefix(f"$KV.{self._bucket}.")
        self._touched.add(key)
        before = self.values.get(key)
        if _gone(message.headers):
            self.values.pop(key, None)
        else:
            self.values[key] = message.data
            self.heard_s[key] = asyncio.get_running_loop().time()
        if self.values.get(key) != before and self.read.is_set():
            self._on_change()


async def read_bucket(connection: Client, bucket: str, prefix: str) -> dict[str, bytes]:
    """All keys that begin with `prefix`, which ends with a dot. Raises Unavailable."""
    js, stream = connection.jetstream(), f"KV_{bucket}"
    places = asyncio.Semaphore(_AT_ONCE)

    async def read(subject: str) -> tuple[str, Any]:
        async with places:
            try:
                entry = await js.get_last_msg(stream, subject, direct=True)
            except NotFoundError:  # it has gone since
                return subject, None
            return subject, None if _gone(entry.headers) else (entry.data or b"")

    try:
        info = await js.stream_info(stream, subjects_filter=f"$KV.{bucket}.{prefix}>")
        entries = await asyncio.gather(*map(read, info.state.subjects or {}))
    except (APIError, NatsError, TimeoutError, OSError) as error:
        raise Unavailable(f"bucket {bucket}", f"it cannot be read ({type(error).__name__})") from error
    return {subject.removeprefix(f"$KV.{bucket}."): value for subject, value in entries if value is not None}


async def write_key(connection: Client, bucket: str, key: str, value: bytes | None) -> None:
    """Puts a value, or with None takes it away. Raises Unavailable."""
    headers = {"KV-Operation": "DEL"} if value is None else None
    try:
        await connection.jetstream().publish(
            f"$KV.{bucket}.{key}", value or b"", stream=f"KV_{bucket}", headers=headers
        )
    except (APIError, NatsError, TimeoutError, OSError) as error:
        raise Unavailable(f"bucket {bucket}", f"it cannot be written ({type(error).__name__})") from error


def _gone(headers: Mapping[str, str] | None) -> bool:
    return (headers or {}).get("KV-Operation") in _GONE or bool((headers or {}).get("Nats-Marker-Reason"))
