"""Whose a request is: routers ask each other when the broker delivers one again.

A message that the broker delivers again may still be in the hands of another router: one that was silent for too long,
or that gave it back. So the router that got it asks. Who is at work on it says so, and keeps it; who gave it back says
how far it came. Where nobody answers, the asker says that it goes on; a router that hears that later, because it stood
still, lets go. Letting go is always safe: a request that nobody is at work on is delivered again. Going on is not, for
a router that stood still itself: it asks until each of the others has said that it does not have the request.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from headrace.contract.claims import (
    Claim,
    ClaimReply,
    HandOver,
    NotHere,
    Running,
    decode_claim,
    decode_claim_reply,
    encode_claim,
    encode_claim_reply,
)
from headrace.contract.errors import HeadraceError
from headrace.contract.subjects import CLAIM_WILDCARD, claim_subject, parse_claim
from headrace.router.ledger import Hold, Ledger, Record
from headrace.runtime.nats_state import NatsHealth

log = structlog.get_logger(__name__)

MAX_PATIENCE_S = 6.0
"""How long a connection may be back before nobody else is waited for: somewhat more than the longest wait between
attempts to connect, as it is by default.
"""

_Key: TypeAlias = tuple[str, str, int]
"""Tenant, request id, and the message's place in the stream: another message of the id may ask for something else."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A request that was given back here."""

    handed: HandOver
    bounces: int


class Ownership:
    """Asks, answers, and keeps what it takes to go on with the requests that were given back here.

    Bounded: at most `max_kept` hand-overs are kept; when full, the oldest is forgotten, and the next router goes on
    from what the gateways know.
    """

    def __init__(
        self,
        connection: Client,
        *,
        router_id: str,
        ledger: Ledger,
        health: NatsHealth,
        wait_s: float,
        lease_s: float,
        report_s: float,
        max_kept: int,
        others: Callable[[], frozenset[str]],
        taken: Callable[[Record], None],
    ) -> None:
        """`others` has the other routers that are known, which report every `report_s` at least, and may have a request
        for `lease_s` without a word to the broker; `taken` is called where one took a request from here.
        """
        self._connection = connection
        self._router_id = router_id
        self._ledger = ledger
        self._health = health
        self._wait_s = wait_s
        self._lease_s = lease_s
        self._report_s = report_s
        self._max_kept = max_kept
        self._others = others
        self._taken = taken
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._claimed = asyncio.Event()

    async def listen(self) -> None:
        """Answers from now on; the subscription ends with the connection."""
        await self._connection.subscribe(CLAIM_WILDCARD, cb=self._on_claim)

    # Asking.

    async def claim(self, record: Record) -> ClaimReply | None:
        """What is known of a request that was delivered again: Running, and then it is another's; a HandOver to go on
        from; None where nobody has it, and then all others were told that it is ours.
        """
        if (own := self._kept.pop((record.tenant, record.id, record.sequence), None)) is not None:
            record.bounces = own.bounces + 1
            return own.handed
        while (answer := await self.ask(record)) is None and self._others_may_be_away():  # noqa: ASYNC110 — nobody tells
            await asyncio.sleep(self._wait_s)
        if answer is None:
            await self._say_taken(record)
        return answer

    def _others_may_be_away(self) -> bool:
        """Whether the connection has just come back: those who lost theirs at the same time try again after waits that
        grow with the time that the broker was away, and what they run goes on meanwhile.
        """
        back_s = time.monotonic() - self._health.state.since_s
        return bool(self._others()) and back_s < min(2 * self._health.away_s, MAX_PATIENCE_S)

    def _others_may_be_unheard(self) -> bool:
        """Whether the connection has come back so lately that there may be routers which have not reported since."""
        return self._health.connections > 1 and time.monotonic() - self._health.state.since_s < self._report_s

    async def ask(self, record: Record) -> ClaimReply | None:
        """The word of another router that has the request, or had it last; None where none says so in time."""
        if not (self._others() or self._others_may_be_unheard()):
            return None
        return await self._ask(record.tenant, record.id, record.sequence)

    async def ask_everybody(self, record: Record) -> ClaimReply | None:
        """The same for a router that may have lost the request meanwhile: None only once each of the others that are
        known has said that it has it not, and others have had their time to speak up. A router that says nothing for as
        long as a lease lasts has none any more. Raises NatsError or OSError where nobody can be heard.
        """
        subject = claim_subject(record.tenant, record.id)
        question = encode_claim(Claim(router_id=self._router_id, sequence=record.sequence, everybody=True))
        inbox, without, began_s = self._connection.new_inbox(), set[str](), time.monotonic()
        answers = await self._connection.subscribe(inbox)
        try:
            async with asyncio.timeout(self._lease_s):
                while not self._others() <= without or self._may_be_others(since_s=began_s):
                    # Asked again: one that is itself about to ask whose it is says nothing yet.
                    await self._connection.publish(subject, question, reply=inbox)
                    if (answer := await self._first_of(answers, without, record.id)) is not None:
                        return answer
        except TimeoutError:
            if not self._health.connected:
                raise ConnectionError("the broker is away: nobody can be heard") from None
            silent = sorted(self._others() - without)
            log.info("claim.not_answered_by", request_id=record.id, routers=silent)
        finally:
            with suppress(NatsError):  # the connection is closed, and its subscriptions with it
                await answers.unsubscribe()
        return None

    def _may_be_others(self, *, since_s: float) -> bool:
        """Whether those who are not known may still speak up."""
        unknown = not self._others() or self._others_may_be_unheard()
        return unknown and time.monotonic() - since_s < self._wait_s

    async def _first_of(self, answers: Subscription, without: set[str], request_id: str) -> ClaimReply | None:
        """The word of a router that has it, or had it last, within `wait_s`; those that do not are added to `without`,
        and None comes at once where these are all.
        """
        try:
            async with asyncio.timeout(self._wait_s):
                while True:
                    match self._read((await answers.next_msg(timeout=None)).data, request_id):
                        case NotHere(router_id=router_id):
                            without.add(router_id)
                            if self._others() <= without and not self._others_may_be_unheard():
                                return None
                        case Running() | HandOver() as answer:
                            return answer
        except TimeoutError:
            return None

    async def is_running(self, tenant: str, request_id: str, sequence: int) -> bool:
        """Whether another router is at work on a request of that id, whatever the place of its message is."""
        if not (self._others() or self._others_may_be_unheard()):
            return False
        return isinstance(await self._ask(tenant, request_id, sequence), Running)

    async def _ask(self, tenant: str, request_id: str, sequence: int) -> ClaimReply | None:
        question = encode_claim(Claim(router_id=self._router_id, sequence=sequence))
        try:
            reply = await self._connection.request(
                claim_subject(tenant, request_id), question, timeout=self._wait_s
            )
        except (NatsError, TimeoutError, OSError):
            return None  # nobody; or nobody can be heard, and then the outcome decides: the broker takes the first
        return self._read(reply.data, request_id)

    @staticmethod
    def _read(body: bytes, request_id: str) -> ClaimReply | None:
        try:
            return decode_claim_reply(body)
        except HeadraceError as error:
            log.warning("claim.reply_malformed", request_id=request_id, problem=str(error))
            return None

    async def _say_taken(self, record: Record) -> None:
        word = encode_claim(Claim(router_id=self._router_id, taken=True, sequence=record.sequence))
        try:
            await self._connection.publish(claim_subject(record.tenant, record.id), word)
        except (NatsError, OSError) as error:
            log.info("claim.not_said", request_id=record.id, problem=type(error).__name__)

    # Answering.

    def keep(self, record: Record, handed: HandOver) -> None:
        """The request goes back to its queue: what the next router needs is kept until that asks."""
        self._kept[record.tenant, record.id, record.sequence] = _Kept(handed, record.bounces)
        if len(self._kept) > self._max_kept:
            self._kept.popitem(last=False)

    async def claimed_within(self, limit_s: float) -> bool:
        """Waits until all hand-overs were asked for, for `limit_s` at most; whether that is so."""
        if not self._others():
            return not self._kept
        try:
            async with asyncio.timeout(limit_s):
                while self._kept:
                    self._claimed.clear()
                    await self._claimed.wait()
        except TimeoutError:
            return False
        return True

    async def _on_claim(self, message: Msg) -> None:
        try:
            claim = decode_claim(message.data)
            tenant, request_id = parse_claim(message.subject)
        except HeadraceError as error:
            log.warning("claim.malformed", problem=str(error))
            return
        if claim.router_id == self._router_id:
            return
        key, record = (tenant, request_id, claim.sequence), self._ledger.find(tenant, request_id)
        if claim.taken:
            self._forget(key)
            if record is not None and _is_taken(record, claim):
                log.warning("request.taken", request_id=request_id, by=claim.router_id)
                self._taken(record)
        elif message.reply and (answer := self._answer(record, key, claim)) is not None:
            await self._reply(message, answer)

    def _answer(self, record: Record | None, key: _Key, claim: Claim) -> ClaimReply | None:
        if record is not None and record.hold is Hold.OWNED:
            return Running(sequence=record.sequence)
        if (handed := self._forget(key)) is not None or not claim.everybody:
            return handed
        if record is not None and record.hold is Hold.CLAIMING:
            return None  # that is not known yet
        return NotHere(router_id=self._router_id)

    def _forget(self, key: _Key) -> HandOver | None:
        kept = self._kept.pop(key, None)
        self._claimed.set()
        return None if kept is None else kept.handed

    async def _reply(self, message: Msg, answer: ClaimReply) -> None:
        try:
            await message.respond(encode_claim_reply(answer))
        except (NatsError, OSError) as error:
            log.info("claim.not_answered", problem=type(error).__name__)


def _is_taken(record: Record, claim: Claim) -> bool:
    """Whether a router that goes on with a message goes on with this one."""
    return record.sequence == claim.sequence and record.hold in (Hold.CLAIMING, Hold.OWNED)
