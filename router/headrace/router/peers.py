"""The other routers: who lives, and what they have lanes for. From the bucket of members, as the gateways hear it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import APIError, NotFoundError

from headrace.contract.subjects import MEMBERS_BUCKET, is_name
from headrace.contract.work import Peer

log = structlog.get_logger(__name__)

_STREAM = f"KV_{MEMBERS_BUCKET}"
_PREFIX = f"$KV.{MEMBERS_BUCKET}.router."
_GONE = frozenset({"DEL", "PURGE"})
SWEEPS_PER_TTL = 5
"""How often a router that fell silent is looked for: it is missed at most a fifth of its time too late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A router as it reports itself."""

    router_id: str
    address: str
    started_s: float
    models: frozenset[str]
    draining: bool


class Peers:
    """All routers that report, this one included. `act` is called whenever one comes, goes, or serves other models."""

    def __init__(self, connection: Client, router_id: str, *, ttl_s: float, act: Callable[[], None]) -> None:
        self._connection = connection
        self._router_id = router_id
        self._ttl_s = ttl_s
        self._act = act
        self._members: dict[str, Member] = {}
        self._heard_s: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Peers {sorted(self._members)}>"

    def others(self) -> frozenset[str]:
        """The other routers that are known, by id."""
        return frozenset(self._members) - {self._router_id}

    def models(self) -> frozenset[str]:
        """What the others have lanes for."""
        others = (member for member in self._members.values() if member.router_id != self._router_id)
        return frozenset().union(*(member.models for member in others))

    def living(self) -> tuple[Peer, ...]:
        """Whom a worker can join: one per address, the youngest there, without those that leave."""
        youngest: dict[str, Member] = {}
        for member in sorted(self._members.values(), key=lambda member: member.started_s):
            youngest[member.address] = member
        return tuple(
            Peer(router_id=member.router_id, address=member.address)
            for member in sorted(youngest.values(), key=lambda member: member.router_id)
            if not member.draining
        )

    async def listen(self) -> None:
        """Hears reports from now on, and those that are there already."""
        await self._connection.subscribe(f"{_PREFIX}*", cb=self._on_report)
        js = self._connection.jetstream()
        try:
            info = await js.stream_info(_STREAM, subjects_filter=f"{_PREFIX}*")
            for subject in info.state.subjects or {}:
                with suppress(NotFoundError):  # it has died since
                    entry = await js.get_last_msg(_STREAM, subject, direct=True)
                    self._hear(subject, entry.headers, entry.data or b"")
        except (APIError, NatsError, TimeoutError) as error:
            log.info("peers.not_listed", problem=type(error).__name__)  # their next reports will do

    async def run(self) -> None:
        """Forgets those that fall silent, until cancelled."""
        loop, pause_s = asyncio.get_running_loop(), self._ttl_s / SWEEPS_PER_TTL
        while True:
            began_s = loop.time()
            await asyncio.sleep(pause_s)
            deaf_s = loop.time() - began_s
            if deaf_s > 2 * pause_s or not self._connection.is_connected:
                # Nobody could say anything to this router, or it could not listen: that is no sign of theirs.
                self._heard_s = {router_id: at_s + deaf_s for router_id, at_s in self._heard_s.items()}
            overdue = loop.time() - self._ttl_s
            for router_id in [router_id for router_id, at_s in self._heard_s.items() if at_s < overdue]:
                self._forget(router_id)

    async def _on_report(self, message: Msg) -> None:
        self._hear(message.subject, message.headers, message.data)

    def _hear(self, subject: str, headers: Mapping[str, str] | None, body: bytes) -> None:
        router_id = subject.removeprefix(_PREFIX)
        if (headers or {}).get("KV-Operation") in _GONE or (headers or {}).get("Nats-Marker-Reason"):
            self._forget(router_id)
            return
        member = member_of(router_id, body)
        if member is None:
            log.warning("peers.report_malformed", router=router_id[:80])
            return
        self._heard_s[router_id] = asyncio.get_running_loop().time()
        if self._members.get(router_id) != member:
            self._members[router_id] = member
            self._act()

    def _forget(self, router_id: str) -> None:
        self._heard_s.pop(router_id, None)
        if self._members.pop(router_id, None) is not None:
            self._act()


def member_of(router_id: str, body: bytes) -> Member | None:
    """The report of a router; None where it is none."""
    try:
        entry = json.loads(body)
        member = Member(
            router_id=router_id,
            address=str(entry["address"]),
            started_s=float(entry["started"]),
            models=frozenset(map(str, entry.get("models", ()))),
            draining=bool(entry.get("draining", False)),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return member if is_name(router_id) else None
