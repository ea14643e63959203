"""The routers: who is a member, and a link to each.

A router says every few seconds that it lives, as a value in the bucket of members. Heard on the bucket's subject, that
word needs no consumer on the broker, and comes again by itself after any interruption.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Callable, Mapping

import nats.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from headrace.contract.subjects import MEMBERS_BUCKET, is_name
from headrace.gateway.catalogue import Catalogue
from headrace.gateway.link import Link, Member, Redial
from headrace.gateway.recovery import Recovery
from headrace.gateway.streams import Streams

log = structlog.get_logger(__name__)

_STREAM = f"KV_{MEMBERS_BUCKET}"
_PREFIX = f"$KV.{MEMBERS_BUCKET}.router."
_GONE = frozenset({"DEL", "PURGE"})

# Reports that wait to be read: some hundred bytes each. When they are full, the oldest words of life are lost, and the
# next ones come within seconds.
_PENDING_REPORTS = 4096

MAX_ROUTERS = 256
"""Links at a time. A router beyond them is told of and not dialled; it serves the gateways that came before."""

_ADDRESS = re.compile(r"[A-Za-z0-9._:\[\]%-]{1,255}:[0-9]{1,5}")
"""host:port. gRPC would take more, such as the path of a socket."""


class Routers:
    """Keeps one link to every router that lives. Writers: `run` and what it calls."""

    def __init__(
        self,
        nc: Client,
        js: JetStreamContext,
        *,
        gateway_id: str,
        streams: Streams,
        catalogue: Catalogue,
        recovery: Recovery,
        redial: Redial,
        member_ttl_s: float,
        on_joined: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_joined` is called whenever a router's stream is up."""
        self._nc = nc
        self._js = js
        self._gateway_id = gateway_id
        self._streams = streams
        self._catalogue = catalogue
        self._recovery = recovery
        self._redial = redial
        self._member_ttl_s = member_ttl_s
        self._on_joined = on_joined
        self._heard_s: dict[str, float] = {}
        self._links: dict[str, tuple[Link, asyncio.Task[None]]] = {}

    def __repr__(self) -> str:
        return f"<Routers {[link for link, _ in self._links.values()]}>"

    @property
    def joined(self) -> int:
        """How many routers are connected."""
        return sum(link.joined for link, _ in self._links.values())

    async def run(self) -> None:
        """Works until it is cancelled."""
        reports = await self._nc.subscribe(f"{_PREFIX}*", pending_msgs_limit=_PENDING_REPORTS)
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._hear_known(tasks)
                async for message in reports.messages:
                    self._hear(message.subject, message.headers, message.data, tasks)
        finally:
            if not self._nc.is_closed:
                await reports.unsubscribe()

    async def _hear_known(self, tasks: asyncio.TaskGroup) -> None:
        """Hears what the bucket holds now, so that a new gateway need not wait for the next reports."""
        try:
            info = await self._js.stream_info(_STREAM, subjects_filter=f"{_PREFIX}*")
            for subject in info.state.subjects or {}:
                with contextlib.suppress(NotFoundError):  # it has died since
                    entry = await self._js.get_last_msg(_STREAM, subject, direct=True)
                    self._hear(subject, entry.headers, entry.data or b"", tasks)
        except (APIError, nats.errors.Error, TimeoutError) as error:
            log.info("routers.not_listed", problem=type(error).__name__)  # their next reports will do

    def _hear(
        self, subject: str, headers: Mapping[str, str] | None, body: bytes, tasks: asyncio.TaskGroup
    ) -> None:
        router_id = subject.removeprefix(_PREFIX)
        if (headers or {}).get("KV-Operation") in _GONE:
            self._heard_s.pop(router_id, None)
            return
        member = member_of(router_id, body)
        if member is None:
            log.warning("router.report_malformed", router=router_id[:80])
            return
        link, task = self._links.get(router_id, (None, None))
        if link is None and len(self._links) >= MAX_ROUTERS:
            log.warning("router.too_many", known=len(self._links))
            return
        self._heard_s[router_id] = time.monotonic()
        if link is not None and task is not None:
            if link.member == member:
                return
            task.cancel()  # a new process under the old name
            self._lost(router_id)
        if self._supersede(member):
            self._start(member, tasks)

    def _supersede(self, member: Member) -> bool:
        """Ends the link to whoever was at the address of `member` before. False where a younger one is there.

        One process listens at an address. A link to one that was killed would reach its successor there, and two links
        to one process would each hold half of the truth.
        """
        for link, task in list(self._links.values()):
            if link.member.address == member.address and link.member.id != member.id:
                if link.member.started > member.started:
                    return False  # the report of one that is gone
                task.cancel()
                self._heard_s.pop(link.member.id, None)
                self._lost(link.member.id)
        return True

    def _start(self, member: Member, tasks: asyncio.TaskGroup) -> None:
        link = Link(
            member,
            gateway_id=self._gateway_id,
            streams=self._streams,
            catalogue=self._catalogue,
            redial=self._redial,
            on_lost=self._lost,
            on_joined=self._on_joined,
        )
        task = tasks.create_task(self._keep(link), name=f"link to {member.id}")
        self._links[member.id] = (link, task)

    async def _keep(self, link: Link) -> None:
        try:
            await link.run(lambda: self._lives(link.member.id))
        finally:
            if self._links.get(link.member.id, (None,))[0] is link:
                del self._links[link.member.id]

    def _lives(self, router_id: str) -> bool:
        """Whether its last word is recent. While NATS is away no word can come, and none is expected."""
        heard_s = self._heard_s.get(router_id)
        if heard_s is None:
            return False
        if time.monotonic() - heard_s < self._member_ttl_s or not self._nc.is_connected:
            return True
        del self._heard_s[router_id]
        return False

    def tell(self, tenant: str, request_id: str) -> None:
        """Has every router told who waits here for a request, or that nobody does."""
        for link, _ in list(self._links.values()):
            link.tell(tenant, request_id)

    def _lost(self, router_id: str) -> None:
        """Its streams wait for another router: the others learn what their clients have already."""
        orphans = self._streams.orphaned_by(router_id)
        if not orphans:
            return
        log.warning("router.lost", router=router_id, requests=len(orphans))  # they wait for another
        self._recovery.check(orphans)
        for link, _ in list(self._links.values()):
            if link.member.id != router_id:
                for audience in orphans:
                    link.tell(audience.tenant, audience.request_id)


def member_of(router_id: str, body: bytes) -> Member | None:
    """The router that a report speaks of; None where it is none."""
    try:
        entry = json.loads(body)
        address, started = entry["address"], float(entry.get("started", 0.0))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
    if not is_name(router_id) or not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        return None
    return Member(id=router_id, address=address, started=started)
