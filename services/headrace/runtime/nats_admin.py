"""How a process answers operators on NATS: who is here, and that one of them is to drain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from headrace.contract.admin import DrainBegun, Member, MemberKind
from headrace.contract.admin_wire import encode_drain_begun, encode_status
from headrace.contract.errors import InvalidRequest
from headrace.contract.subjects import ADMIN_STATUS, DRAIN_WILDCARD, parse_drain

log = structlog.get_logger(__name__)


class AdminAnswers:
    """Answers for the members that this process speaks for; says nothing of others."""

    def __init__(
        self,
        nc: Client,
        *,
        members: Callable[[], Sequence[Member]],
        drain: Callable[[MemberKind, str], DrainBegun | None],
    ) -> None:
        """`drain(kind, id)` begins a drain, and gives None where that member is not here."""
        self._nc = nc
        self._members = members
        self._drain = drain

    async def listen(self) -> None:
        """Subscribes; the subscriptions end with the connection."""
        await self._nc.subscribe(ADMIN_STATUS, cb=self._on_status)
        await self._nc.subscribe(DRAIN_WILDCARD, cb=self._on_drain)

    async def _on_status(self, message: Msg) -> None:
        if message.reply:
            await message.respond(encode_status(self._members()))

    async def _on_drain(self, message: Msg) -> None:
        try:
            kind, member_id = parse_drain(message.subject)
        except InvalidRequest:
            return  # it names nobody
        begun = self._drain(kind, member_id)
        if begun is None:
            return
        log.info("drain.asked", kind=kind.value, member=member_id)
        if message.reply:
            await message.respond(encode_drain_begun(begun))
