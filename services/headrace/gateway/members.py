"""The members of the mesh, as they answer on NATS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import nats.errors
import structlog
from nats.aio.client import Client

from headrace.contract.admin import DrainBegun, Member, MemberKind
from headrace.contract.admin_wire import (
    decode_drain_begun,
    decode_log_level_set,
    decode_status,
    encode_set_log_level,
)
from headrace.contract.errors import InvalidRequest, MalformedMessage, Unavailable, UnknownMember
from headrace.contract.log_level import LogLevel
from headrace.contract.subjects import ADMIN_STATUS, drain_subject, is_name, log_subject
from headrace.gateway.broker import require_connection, unanswered

log = structlog.get_logger(__name__)
T = TypeVar("T")

ANSWER_S = 2.0
"""How long a member that was there a moment ago may take to say that it does what it was asked for."""

FIRST_ANSWER_S = 5.0
"""How long the first answer may take. There is one: the gateway that asks is a member, too. A machine with much else to
do would else say that there is nobody."""

LATE_ANSWER_S = 2.0
"""How long answers are waited for where the member that is meant was not among those that came at once."""

_ORDER = {kind: place for place, kind in enumerate(MemberKind)}
_PENDING_ANSWERS = 10_000
"""Answers that wait to be read, one per process; more processes than that are not listed."""


class Members:
    """Asks everybody who is there. Holds nothing; all methods raise Unavailable where the broker is away."""

    def __init__(self, nc: Client, *, wait_s: float) -> None:
        """`wait_s` is how long answers are waited for after the first: nobody knows how many will come."""
        self._nc = nc
        self._wait_s = wait_s

    async def gather(self) -> tuple[Member, ...]:
        """Routers, gateways, workers, each by id."""
        return await self._gather(self._wait_s)

    async def _gather(self, wait_s: float) -> tuple[Member, ...]:
        require_connection(self._nc)
        inbox = self._nc.new_inbox()
        found: list[Member] = []
        try:
            answers = await self._nc.subscribe(inbox, pending_msgs_limit=_PENDING_ANSWERS)
            try:
                await self._nc.publish(ADMIN_STATUS, reply=inbox)
                async with asyncio.timeout(FIRST_ANSWER_S) as limit:
                    async for answer in answers.messages:
                        if not found:
                            limit.reschedule(asyncio.get_running_loop().time() + wait_s)
                        found += _members(answer.data)
            except TimeoutError:
                pass
            finally:
                await answers.unsubscribe()
        except nats.errors.Error as error:
            raise unanswered(error) from error
        if not found:
            raise Unavailable(
                "NATS", f"nobody has answered within {FIRST_ANSWER_S:g} s, nor has this gateway"
            )
        return tuple(sorted(found, key=lambda member: (_ORDER[member.kind], member.id, member.router)))

    async def drain(self, kind: MemberKind | None, member_id: str) -> DrainBegun:
        """Has a member drain and end. Raises UnknownMember, or InvalidRequest("kind") where several have that id."""
        found = await self._find(kind, member_id, "is to drain")
        return await self._ask(found, member_id, drain_subject(found, member_id), b"", decode_drain_begun)

    async def log_level(self, kind: MemberKind | None, member_id: str, level: LogLevel) -> Member:
        """Has a member log so much from now on. Raises what `drain` does."""
        found = await self._find(kind, member_id, "is to log so much")
        body = encode_set_log_level(found, member_id, level).SerializeToString()
        return await self._ask(found, member_id, log_subject(found, member_id), body, decode_log_level_set)

    async def _find(self, kind: MemberKind | None, member_id: str, what: str) -> MemberKind:
        """The kind of the member that is meant."""
        if not member_id:
            raise InvalidRequest("id", f"must say which member {what}")
        members = await self._gather(self._wait_s)
        kinds = _kinds(members, kind, member_id)
        if not kinds:  # it may be a busy machine that answers late
            members = await self._gather(max(self._wait_s, LATE_ANSWER_S))
            kinds = _kinds(members, kind, member_id)
        if not kinds or not is_name(member_id):
            raise UnknownMember(
                member_id, [member.title for member in members if kind in (None, member.kind)]
            )
        if len(kinds) > 1:
            words = " and ".join(each.value for each in MemberKind if each in kinds)
            raise InvalidRequest("kind", f"must be given: there is a {words} of the id {member_id}")
        (found,) = kinds
        return found

    async def _ask(
        self, kind: MemberKind, member_id: str, subject: str, body: bytes, decode: Callable[[bytes], T]
    ) -> T:
        try:
            answer = await self._nc.request(subject, body, timeout=ANSWER_S)
            return decode(answer.data)
        except (TimeoutError, nats.errors.NoRespondersError, MalformedMessage) as error:
            raise Unavailable(kind.value, f"{member_id} does not answer; list the members again") from error
        except nats.errors.Error as error:
            raise unanswered(error) from error


def _kinds(members: tuple[Member, ...], kind: MemberKind | None, member_id: str) -> set[MemberKind]:
    return {member.kind for member in members if member.id == member_id and kind in (None, member.kind)}


def _members(body: bytes) -> tuple[Member, ...]:
    try:
        return decode_status(body)
    except MalformedMessage as error:
        log.warning("members.answer_malformed", problem=str(error))
        return ()
