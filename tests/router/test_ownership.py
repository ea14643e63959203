"""Questions between routers, on a real broker: who answers what, and what waits for the answers."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast
from unittest.mock import Mock

import nats
import pytest
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from headrace.contract.claims import HandOver, Running, encode_claim_reply
from headrace.contract.subjects import CLAIM_WILDCARD, claim_subject
from headrace.router.delivery import Delivery
from headrace.router.gateways import Gateways
from headrace.router.intake import Intake
from headrace.router.leases import Leases
from headrace.router.ledger import Hold, Ledger, Record
from headrace.router.ownership import Ownership
from headrace.runtime.nats_flush import flushed
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.nats_state import Link, LinkState, NatsHealth
from tests.router.records import a_record, letters

pytestmark = pytest.mark.integration

WAIT_S = 0.3
LEASE_S = 1.5
LONG_S = 10.0
"""Told apart from no wait at all on any machine."""


@dataclass
class Router:
    """As much of a router as takes part."""

    client: Client
    ledger: Ledger
    ownership: Ownership
    health: NatsHealth
    taken: list[Record] = field(default_factory=list)
    lost: asyncio.Event = field(default_factory=asyncio.Event)

    async def loses(self) -> list[Record]:
        """What it has let go of, once that is anything."""
        async with asyncio.timeout(10):
            await self.lost.wait()
        return self.taken

    def holds(self, record: Record, hold: Hold = Hold.OWNED) -> None:
        record.hold = hold
        self.ledger.add(record)


@asynccontextmanager
async def router(
    server: EmbeddedNats, router_id: str, *, others: str = "ab", wait_s: float = WAIT_S, max_kept: int = 10
) -> AsyncIterator[Router]:
    """`others`: the ids of all routers that it knows, a letter each; its own is none of another."""
    client = await nats.connect(server.url)
    ledger, health, taken, lost = Ledger(), NatsHealth(), list[Record](), asyncio.Event()

    def let_go(record: Record) -> None:
        record.hold = Hold.TAKEN
        taken.append(record)
        lost.set()

    ownership = Ownership(
        client,
        router_id=router_id,
        ledger=ledger,
        health=health,
        wait_s=wait_s,
        lease_s=max(LEASE_S, wait_s),
        report_s=1.0,
        max_kept=max_kept,
        others=lambda: frozenset(others) - {router_id},
        taken=let_go,
    )
    await ownership.listen()
    await flushed(client)
    try:
        yield Router(client, ledger, ownership, health, taken, lost)
    finally:
        await client.close()


async def test_an_owner_says_so_and_nobody_else_says_anything(nats_server: EmbeddedNats) -> None:
    """Whoever is only about to take it, or had it, is silent; and then it is the asker's, and all are told."""
    async with router(nats_server, "a") as a, router(nats_server, "b") as b:
        owned, claimed, other = a_record(), a_record(), a_record(tenant="other")
        a.holds(owned)
        a.holds(claimed, Hold.CLAIMING)
        a.holds(other)
        assert await b.ownership.claim(owned) == Running(sequence=7)
        assert await b.ownership.claim(claimed) is None
        await flushed(a.client)
        assert await a.loses() == [claimed]
        foreign = a_record(id=other.id)  # of another tenant
        assert await b.ownership.claim(foreign) is None
        assert owned.hold is Hold.OWNED


async def test_what_was_given_back_is_handed_over_once(nats_server: EmbeddedNats) -> None:
    """To the first who asks; the one that gave it back takes it up again without asking."""
    async with router(nats_server, "a") as a, router(nats_server, "b") as b:
        given, again = a_record(made="abc"), a_record(made="xyz")
        for record in (given, again):
            a.ownership.keep(record, record.hand_over())
        assert not await a.ownership.claimed_within(0.01)
        answer = await b.ownership.claim(given)
        assert isinstance(answer, HandOver)
        assert answer.output == given.output
        assert await b.ownership.claim(given) is None
        own = await a.ownership.claim(again)
        assert isinstance(own, HandOver)
        assert again.bounces == 1
        assert await a.ownership.claimed_within(0.01)


async def test_another_message_of_the_id_is_another_request(nats_server: EmbeddedNats) -> None:
    """It may ask for something else: it gets no hand-over, and takes nothing away; but it need not be computed yet."""
    async with router(nats_server, "a") as a, router(nats_server, "b") as b:
        first = a_record(made="abc")
        second = a_record(id=first.id)
        second.sequence = 8
        a.ownership.keep(first, first.hand_over())
        assert await b.ownership.claim(second) is None
        a.holds(first)
        assert await b.ownership.claim(second) == Running(sequence=7)
        await b.ownership._say_taken(second)
        await flushed(b.client)
        await flushed(a.client)
        assert a.taken == []
        first.hold = Hold.RELEASED
        assert isinstance(await b.ownership.claim(first), HandOver)


async def test_the_end_of_a_drain_waits_for_those_who_ask(nats_server: EmbeddedNats) -> None:
    """As long as it may."""
    async with router(nats_server, "a") as a, router(nats_server, "b") as b:
        record = a_record(made="abc")
        a.ownership.keep(record, record.hand_over())
        waiting = asyncio.ensure_future(a.ownership.claimed_within(10))
        await b.ownership.claim(record)
        assert await waiting


async def test_who_is_alone_neither_waits_nor_is_waited_for(nats_server: EmbeddedNats) -> None:
    """A lone router goes on at once, and says so all the same."""
    async with router(nats_server, "a", others="", wait_s=LONG_S) as a, router(nats_server, "b") as b:
        record = a_record()
        b.holds(record)
        began_s = time.monotonic()
        assert await a.ownership.claim(record) is None
        assert time.monotonic() - began_s < LONG_S
        await flushed(b.client)
        assert await b.loses() == [record], "one that was thought gone hears of it"


async def test_a_router_that_could_hear_nobody_asks_whether_others_have_come(
    nats_server: EmbeddedNats,
) -> None:
    """Until they would have reported; and before it ends a request whose lease may have lapsed, in any case."""
    async with router(nats_server, "a", others="") as a, router(nats_server, "b") as b:
        record = a_record()
        b.holds(record)
        now_s = time.monotonic()
        a.health.record(LinkState(link=Link.CONNECTED, since_s=now_s))
        assert await a.ownership.ask(record) is None, "it was there when the others reported"
        assert await a.ownership.ask_everybody(record) == Running(sequence=7)
        a.health.record(LinkState(link=Link.DISCONNECTED, since_s=now_s))
        a.health.record(LinkState(link=Link.CONNECTED, since_s=now_s))
        assert await a.ownership.ask(record) == Running(sequence=7)
        a.health.record(LinkState(link=Link.CONNECTED, since_s=now_s - 1.5))
        assert await a.ownership.ask(record) is None


async def test_who_stood_still_waits_for_each_of_the_others(nats_server: EmbeddedNats) -> None:
    """All say at once that they have it not; one that has given it back hands it over."""
    async with (
        router(nats_server, "a", others="abc", wait_s=LONG_S) as a,
        router(nats_server, "b") as b,
        router(nats_server, "c"),
    ):
        record, handed = a_record(), a_record(made="abc")
        began_s = time.monotonic()
        assert await a.ownership.ask_everybody(record) is None
        assert time.monotonic() - began_s < LONG_S, "nobody was waited for longer than it took to answer"
        b.ownership.keep(handed, handed.hand_over())
        assert isinstance(await a.ownership.ask_everybody(handed), HandOver)


async def test_a_busy_owner_is_waited_for(nats_server: EmbeddedNats) -> None:
    """Longer than others wait for an answer: its silence does not mean that it has nothing."""
    async with router(nats_server, "a") as a:
        record = a_record()
        busy = await nats.connect(nats_server.url)

        async def answer(message: Msg) -> None:
            await asyncio.sleep(2 * WAIT_S)
            await message.respond(encode_claim_reply(Running(sequence=7)))

        await busy.subscribe(CLAIM_WILDCARD, cb=answer)
        await flushed(busy)
        assert await a.ownership.ask(record) is None
        assert await a.ownership.ask_everybody(record) == Running(sequence=7)
        await busy.close()


async def test_who_is_about_to_take_it_is_asked_again(nats_server: EmbeddedNats) -> None:
    """It says nothing before it knows."""
    async with router(nats_server, "a") as a, router(nats_server, "b") as b:
        record, same = a_record(), a_record()
        same.request = record.request
        b.holds(same, Hold.CLAIMING)
        heard = await b.client.subscribe(CLAIM_WILDCARD)
        await flushed(b.client)
        asking = asyncio.ensure_future(a.ownership.ask_everybody(record))
        await heard.next_msg(5)
        same.hold = Hold.OWNED
        assert await asking == Running(sequence=7)


async def test_hand_overs_are_bounded(nats_server: EmbeddedNats) -> None:
    """The oldest is forgotten."""
    async with router(nats_server, "a", max_kept=2) as a, router(nats_server, "b") as b:
        records = [a_record() for _ in range(3)]
        for record in records:
            a.ownership.keep(record, record.hand_over())
        answers = [await b.ownership.ask(record) for record in records]
        assert [isinstance(answer, HandOver) for answer in answers] == [False, True, True]


async def test_words_that_are_no_claims_change_nothing(nats_server: EmbeddedNats) -> None:
    """Whoever says them."""
    async with router(nats_server, "a") as a, router(nats_server, "b") as b:
        record = a_record()
        a.holds(record)
        subject = claim_subject("default", record.id)
        for wrong, body in [(subject, b"\xff\xff"), (f"{subject}.more", b""), ("hr.v1.claim.x", b"")]:
            await b.client.publish(wrong, body, reply="somewhere")
        await flushed(b.client)
        assert await b.ownership.ask(record) == Running(sequence=7)
        assert a.taken == []


async def test_what_is_read_was_given_after_the_brokers_last_answer(nats_server: EmbeddedNats) -> None:
    """Not when it is read: who stood still may find in a message what others have had since."""
    async with router(nats_server, "a") as a:
        leases = Leases(
            a.client,
            ledger=a.ledger,
            ownership=a.ownership,
            health=a.health,
            ack_wait_s=0.3,
            taken=lambda lost: None,
        )
        began_s = leases.since_s
        asked_s = time.monotonic()
        await leases._extend()
        assert asked_s <= leases.since_s <= time.monotonic()
        known_s = leases.since_s
        await a.client.close()
        with pytest.raises(NatsError):
            await leases._extend()
        assert began_s < known_s == leases.since_s


async def test_a_message_that_is_delivered_again_renews_no_lease() -> None:
    """It shows that the lease has lapsed, and says nothing of what has become of the request since."""
    held, again = a_record(), a_record()
    held.leased_s, again.leased_s = 1.0, 2.0
    intake = Intake(**{name: Mock() for name in inspect.signature(Intake).parameters})
    await intake._again(held, again)
    assert held.message is again.message
    assert held.leased_s == 1.0


def test_a_lapse_is_seen_in_the_turn_in_which_it_passes() -> None:
    """A router that is stopped in the middle of a turn reads on in it when it wakes."""

    async def stopped_in_a_turn() -> None:
        one, record = Ledger(), a_record()
        record.hold, record.leased_s = Hold.OWNED, time.monotonic()
        one.add(record)
        leases = Leases(
            cast(Client, None),
            ledger=one,
            ownership=cast(Ownership, None),
            health=NatsHealth(),
            ack_wait_s=0.01,
            taken=lambda lost: None,
        )
        assert leases.question(record) is None
        time.sleep(0.02)  # noqa: ASYNC251 — nothing else is to run
        question = leases.question(record)
        assert question is not None
        question.cancel()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(stopped_in_a_turn())


@asynccontextmanager
async def publishing(one: Router, record: Record) -> AsyncIterator[tuple[Delivery, asyncio.Event]]:
    """The delivery of a router that stood still, so that the lease of `record` may have lapsed; the event comes when
    it has let the request go.
    """
    health, gone = one.health, asyncio.Event()
    health.record(LinkState(link=Link.CONNECTED, since_s=0.0))

    def let_go(lost: Record) -> None:
        lost.hold = Hold.TAKEN
        delivery.forget(lost)
        gone.set()

    leases = Leases(
        one.client, ledger=one.ledger, ownership=one.ownership, health=health, ack_wait_s=1.0, taken=let_go
    )
    delivery = Delivery(one.client, gateways=Gateways("a"), leases=leases, health=health)
    record.leased_s = time.monotonic() - 2.0
    running = asyncio.ensure_future(delivery.run())
    try:
        yield delivery, gone
    finally:
        running.cancel()


async def test_tokens_are_held_back_until_nobody_else_has_the_request(nats_server: EmbeddedNats) -> None:
    """They come all, in order, and later ones at once. Who says nothing for as long as a lease lasts has none."""
    async with router(nats_server, "a", others="abc") as a, router(nats_server, "b") as b:
        record = a_record(a.client, reply_to="replies.a")
        a.holds(record)
        events = await b.client.subscribe("replies.a")
        await flushed(b.client)
        async with publishing(a, record) as (delivery, _):
            began_s = time.monotonic()
            for index, letter in enumerate("abc"):
                record.keep(letters(index, letter))
                delivery.tokens(record, letters(index, letter))
                await asyncio.sleep(WAIT_S / 10)
            tokens = json.loads((await events.next_msg(5)).data)["tokens"]
            assert time.monotonic() - began_s >= LEASE_S
            assert (tokens["first_index"], tokens["text"]) == (0, "abc")
            record.keep(letters(3, "d"))
            delivery.tokens(record, letters(3, "d"))
            tokens = json.loads((await events.next_msg(WAIT_S)).data)["tokens"]
            assert (tokens["first_index"], tokens["text"]) == (3, "d")


async def test_tokens_of_a_request_that_another_runs_are_never_sent(nats_server: EmbeddedNats) -> None:
    """The owner's word comes before any of them."""
    async with router(nats_server, "a") as a, router(nats_server, "b") as b:
        record, same = a_record(a.client, reply_to="replies.b"), a_record()
        same.request = record.request
        a.holds(record)
        b.holds(same)
        events = await b.client.subscribe("replies.b")
        await flushed(b.client)
        async with publishing(a, record) as (delivery, gone):
            record.keep(letters(0, "abc"))
            delivery.tokens(record, letters(0, "abc"))
            await asyncio.wait_for(gone.wait(), 5)
            await a.client.publish("replies.b", b"nothing came before")
            assert (await events.next_msg(5)).data == b"nothing came before"
