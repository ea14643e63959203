"""How a process answers operators on NATS: who is here, that one of them is to drain, and how much one is to log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from headrace.contract.admin import DrainBegun, Member, MemberKind
from headrace.contract.admin_wire import (
    decode_asked_log_level,
    encode_drain_begun,
    encode_status,
    log_level_response,
)
from headrace.contract.errors import InvalidRequest, MalformedMessage
from headrace.contract.log_level import LogLevel
from headrace.contract.subjects import ADMIN_STATUS, DRAIN_WILDCARD, LOG_WILDCARD, parse_drain, parse_log

log = structlog.get_logger(__name__)


class AdminAnswers:
    """Answers for the members that this process speaks for; says nothing of others."""

    def __init__(
        self,
        nc: Client,
        *,
        members: Callable[[], Sequence[Member]],
        drain: Callable[[MemberKind, str], DrainBegun | None],
        log_level: Callable[[MemberKind, str, LogLevel], Member | None],
    ) -> None:
        """`drain(kind, id)` begins a drain, `log_level(kind, id, level)` has that member log so much; both give None
        where it is not here.
        """
        self._nc = nc
        self._members = members
        self._drain = drain
        self._log_level = log_level

    async def listen(self) -> None:
        """Subscribes; the subscriptions end with the connection."""
        await self._nc.subscribe(ADMIN_STATUS, cb=self._on_status)
        await self._nc.subscribe(DRAIN_WILDCARD, cb=self._on_drain)
        await self._nc.subscribe(LOG_WILDCARD, cb=self._on_log_level)

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

    async def _on_log_level(self, message: Msg) -> None:
        try:
            kind, member_id = parse_log(message.subject)
            level = decode_asked_log_level(message.data)
        except (InvalidRequest, MalformedMessage) as error:
            log.warning("log_level.malformed", problem=str(error))
            return  # a gateway has checked what it asks
        member = self._log_level(kind, member_id, level)
        if member is not None and message.reply:
            await message.respond(log_level_response(member).SerializeToString())
