"""What a gateway is sent of a request: everything that it does not have, in order, and only of one answer."""

from __future__ import annotations

import asyncio

import pytest

from headrace.contract.deliver import HeldStream
from headrace.contract.values import Outcome, OutcomeKind, Usage
from headrace.router.gateway_link import GatewayLink
from headrace.router.ledger import Record
from tests.router.records import a_record, letters


async def sent(link: GatewayLink) -> list[tuple[int, str]]:
    """The chunks that wait to be sent: first index and text."""
    if not len(link.outbox):
        return []
    deliveries = (await link.outbox.take()).deliveries
    return [(d.tokens.first_index, d.tokens.text) for d in deliveries if d.tokens is not None]


def held(record: Record, text: str = "", first: int = 0, tenant: str = "default") -> HeldStream:
    return HeldStream(
        request_id=record.id, tenant=tenant, first_index=first, token_ids=tuple(map(ord, text)), text=text
    )


async def test_what_it_misses_comes_first() -> None:
    """Then what is new."""
    link, record = GatewayLink("gw"), a_record(made="abcd")
    link.told([held(record, "ab")])
    link.bring_in_step(record)
    record.keep(chunk := letters(4, "e"))
    link.tokens(record, chunk)
    assert await sent(link) == [(2, "cde")]


async def test_one_that_is_ahead_is_waited_for() -> None:
    """A router that began anew has to make what the client has before it can go on."""
    link, record = GatewayLink("gw"), a_record()
    link.told([held(record, "ab")])
    for index, letter in enumerate("abc"):
        record.keep(chunk := letters(index, letter))
        link.tokens(record, chunk)
    assert await sent(link) == [(2, "c")]


@pytest.mark.parametrize(
    ("text", "first", "made"), [("xy", 0, "abcd"), ("ay", 0, "abcd"), ("x", 1, "abc"), ("abX", 0, "abc")]
)
async def test_what_has_other_tokens_gets_none(text: str, first: int, made: str) -> None:
    """Nor later; it gets the end, and looks for the rest where that is durable."""
    link, record = GatewayLink("gw"), a_record(made=made)
    link.told([held(record, text, first)])
    link.bring_in_step(record)
    record.keep(chunk := letters(len(made), "z"))
    link.tokens(record, chunk)
    assert await sent(link) == []
    link.finished(_outcome(record), record.output)
    (delivery,) = (await link.outbox.take()).deliveries
    assert (delivery.tokens, delivery.finished) == (None, _outcome(record))


async def test_another_tenant_follows_nothing() -> None:
    """Whoever knows the id of a request."""
    link, record = GatewayLink("gw"), a_record(made="abc")
    link.told([held(record, tenant="other")])
    link.bring_in_step(record)
    assert await sent(link) == []


async def test_a_second_client_that_wants_more_is_sent_it_again() -> None:
    """What waited to be sent is sent once."""
    link, record = GatewayLink("gw"), a_record(made="abcd")
    link.told([held(record, first=3)])
    link.bring_in_step(record)
    link.told([held(record, first=1)])
    link.bring_in_step(record)
    assert await sent(link) == [(1, "bcd")]


async def test_the_end_comes_after_what_is_missed() -> None:
    """Also of a request that ended while the gateway was away."""
    link, record = GatewayLink("gw"), a_record(made="abcd")
    link.told([held(record, "ab")])
    link.finished(_outcome(record), record.output)
    (delivery,) = (await link.outbox.take()).deliveries
    assert delivery.tokens == letters(2, "cd")
    assert delivery.finished is not None


async def test_a_recall_is_answered_by_what_is_held_or_left() -> None:
    """Each question once, for all who ask."""
    link, record = GatewayLink("gw"), a_record()
    asking = [asyncio.ensure_future(link.recall(record.id, "default")) for _ in range(2)]
    await asyncio.sleep(0)
    assert len((await link.outbox.take()).recall) == 1
    link.told([stream := held(record, "a")])
    assert await asyncio.gather(*asking) == [stream, stream]
    again = asyncio.ensure_future(link.recall(record.id, "default"))
    await asyncio.sleep(0)
    link.left([record.id])
    assert await again is None
    assert record.id not in link.held
    lost = asyncio.ensure_future(link.recall(record.id, "default"))
    await asyncio.sleep(0)
    link.broken()
    with pytest.raises(ConnectionResetError):
        await lost


def _outcome(record: Record) -> Outcome:
    return Outcome(
        request_id=record.id, kind=OutcomeKind.COMPLETED, model="fake", usage=Usage(output_tokens=9)
    )
