"""Which of the routers does what only one is to do: the one that holds a key whose bucket forgets it.

It is written with the sequence that it had, so that of two that write at once one is refused; where its holder dies,
it goes by its age, and another takes it. For a moment two may believe that they hold it: what they do must bear that.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import Header
from nats.js.errors import APIError, NotFoundError

from headrace.contract.subjects import MEMBERS_BUCKET

log = structlog.get_logger(__name__)

PARTS = 3
"""How often it is said again within its age: one that is lost does no harm."""


class Lead:
    """The key, as this router holds it or does not."""

    def __init__(self, connection: Client, router_id: str, key: str, *, ttl_s: float) -> None:
        self._connection = connection
        self._router_id = router_id
        self._subject = f"$KV.{MEMBERS_BUCKET}.{key}"
        self._every_s = ttl_s / PARTS
        self._number = 0
        self._said_s = -ttl_s
        self._said: Mapping[str, str] = {}
        self.held = False

    async def hold(self, note: Mapping[str, str]) -> bool:
        """Whether this router leads now, after it has tried to; `note` is what it tells everybody."""
        now_s = asyncio.get_running_loop().time()
        if self.held and note == self._said and now_s - self._said_s < self._every_s:
            return True
        try:
            was, self.held = self.held, await self._write(note)
        except (APIError, NatsError, TimeoutError, OSError) as error:
            log.info("lead.not_known", problem=type(error).__name__)
            self.held = False
            return False
        if self.held:
            self._said, self._said_s = note, now_s
        if self.held is not was:
            log.info("lead.taken" if self.held else "lead.lost")
        return self.held

    async def leave(self) -> None:
        """Another may lead at once."""
        if self.held:
            self.held = False
            with suppress(APIError, NatsError, TimeoutError, OSError):
                async with asyncio.timeout(1.0):  # a courtesy: it goes by its age
                    await self._publish(b"", {"KV-Operation": "DEL"})

    async def _write(self, note: Mapping[str, str]) -> bool:
        body = json.dumps({"router": self._router_id, "waiting": dict(note)}).encode()
        for _ in range(2):
            try:
                self._number = await self._publish(body, {})
            except APIError:
                if not await self._free():
                    return False
            else:
                return True
        return False

    async def _publish(self, body: bytes, headers: dict[str, str]) -> int:
        headers = {**headers, Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(self._number)}
        return (await self._connection.jetstream().publish(self._subject, body, headers=headers)).seq

    async def _free(self) -> bool:
        """Whether the key is nobody's, or this router's from before; then it knows its sequence."""
        try:
            last = await self._connection.jetstream().get_last_msg(f"KV_{MEMBERS_BUCKET}", self._subject)
        except NotFoundError:
            self._number = 0
            return True
        with suppress(ValueError, AttributeError):
            gone = bool(last.headers and "KV-Operation" in last.headers)
            if gone or json.loads(last.data or b"{}").get("router") == self._router_id:
                self._number = last.seq or 0
                return True
        return False
