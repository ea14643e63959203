"""Reading the stream of dead letters, whatever it holds."""

from __future__ import annotations

import time

import nats
import pytest
from nats.aio.client import Client

from headrace.contract.errors import InvalidRequest, NotFound, Unavailable
from headrace.contract.subjects import DEAD_STREAM
from headrace.contract.values import Failure, TraceContext
from headrace.dead import letters as reading
from headrace.dead.letter import UNREADABLE, Wanted
from headrace.dead.letters import DeadLetters
from headrace.dead.page import PAGE_LETTERS, Page, read_page
from headrace.runtime.nats_server import EmbeddedNats
from tests.dead.lying import a_dead, a_letter, every, lay, numbers

pytestmark = pytest.mark.integration

MALFORMED = Failure(code="MALFORMED_MESSAGE", message="body: is not JSON")


async def test_more_than_a_page_is_read_in_both_directions(broker: Client) -> None:
    """Every letter once, in order, in pages of a bounded size."""
    laid = await lay(broker, *[a_dead()] * (2 * PAGE_LETTERS + 90))
    letters = await DeadLetters.open(broker)
    forwards = [page async for page in letters.oldest_first()]
    backwards = [page async for page in letters.newest_first()]
    assert numbers(forwards) == laid
    assert numbers(backwards) == laid[::-1]
    assert max(map(len, forwards + backwards)) <= PAGE_LETTERS


async def test_a_wide_gap_costs_few_reads(broker: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream whose letters were dropped in the middle is read in steps that grow."""
    laid = await lay(broker, *[a_dead(body=b"x")] * 9000)
    js = broker.jetstream()
    await js.purge_stream(DEAD_STREAM, seq=3)
    await lay(broker, a_dead(subject="hr.v1.req.other.normal.default"))
    await js.purge_stream(DEAD_STREAM, subject="hr.v1.dead.fake.default", keep=1)
    reads = 0

    async def counted(nc: Client, first: int, subject: str, most: int = PAGE_LETTERS) -> Page:
        nonlocal reads
        reads += 1
        return await read_page(nc, first, subject, most)

    monkeypatch.setattr(reading, "read_page", counted)
    letters = await DeadLetters.open(broker)
    assert [numbers([page]) async for page in letters.newest_first()] == [[9001, 9000]]
    letters.first = 1
    assert numbers([page async for page in letters.newest_first()]) == [9001, 9000]
    assert reads < 20
    assert laid[-1] == 9000


async def test_letters_that_fill_a_page_by_their_size(broker: Client) -> None:
    """A page is bounded in bytes, too, and none is skipped for it."""
    laid = await lay(broker, *[a_dead(body=b"x" * 3_000_000)] * 7)
    letters = await DeadLetters.open(broker)
    forwards = [page async for page in letters.oldest_first()]
    backwards = [page async for page in letters.newest_first()]
    assert numbers(forwards) == laid
    assert numbers(backwards) == laid[::-1]
    assert max(map(len, forwards + backwards)) <= 4


async def test_filters(broker: Client) -> None:
    """By model, tenant, code and time, and by all at once."""
    other, tenant = "hr.v1.req.other.normal.default", "hr.v1.req.fake.high.acme"
    one, two, three = await lay(broker, a_dead(), a_dead(subject=other), a_dead(subject=tenant))
    middle_s = time.time()
    four, *_ = await lay(broker, a_dead(subject=tenant, failure=MALFORMED))
    letters = await DeadLetters.open(broker)

    async def found(wanted: Wanted) -> list[int]:
        backwards = numbers([page async for page in letters.newest_first(wanted)])
        assert numbers([page async for page in letters.oldest_first(wanted)]) == backwards[::-1]
        return backwards[::-1]

    assert await found(Wanted()) == [one, two, three, four]
    assert await found(Wanted(model="fake")) == [one, three, four]
    assert await found(Wanted(tenant="default")) == [one, two]
    assert await found(Wanted(code="too_many_attempts")) == [one, two, three]
    assert await found(Wanted(since_s=middle_s)) == [four]
    assert await found(Wanted(model="fake", tenant="acme", code="TOO_MANY_ATTEMPTS")) == [three]
    assert await found(Wanted(model="nobody")) == []


async def test_what_comes_later_is_not_part_of_what_was_looked_at(broker: Client) -> None:
    """Else a bulk replay would go on with the letters that it makes."""
    laid = await lay(broker, a_dead(), a_dead())
    letters = await DeadLetters.open(broker)
    await lay(broker, a_dead())
    assert numbers([page async for page in letters.oldest_first()]) == laid
    assert numbers([page async for page in letters.newest_first()]) == laid[::-1]


async def test_one_letter_by_its_number(broker: Client) -> None:
    """With all that was written; NotFound for one that is gone, never was, or is not there yet."""
    dead = a_dead(trace=TraceContext(traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01"), headers={"X": "1"})
    first, gone, last = await lay(broker, dead, a_dead(), a_dead())
    letters = await DeadLetters.open(broker)
    letter = await letters.get(first)
    assert letter.dead == dead
    assert letter.trace_id == "ab" * 16
    assert await letters.remove(gone)
    for number in (gone, last + 1, 10**12):
        with pytest.raises(NotFound, match=f"no dead letter '{number}'"):
            await letters.get(number)
        assert not await letters.remove(number)
    await broker.jetstream().purge_stream(DEAD_STREAM, seq=last)
    assert not await letters.remove(first)


async def test_what_is_no_letter_is_listed_as_such(broker: Client) -> None:
    """Somebody else's message in the stream hides no letter, and can be dropped; not even one that plays the broker."""
    js = broker.jetstream()
    await js.publish("hr.v1.dead.fake.default", b"\xff\xff")
    await js.publish("hr.v1.dead.fake.default", b"", headers={"Status": "204", "Nats-Num-Pending": "0"})
    (laid,) = await lay(broker, a_dead())
    found = await every(broker)
    assert [letter.dead.failure.code for letter in found][::2] == [UNREADABLE, "TOO_MANY_ATTEMPTS"]
    assert [letter.number for letter in found] == [1, 2, laid]
    assert await (await DeadLetters.open(broker)).remove(1)


async def test_without_letters(broker: Client) -> None:
    """An empty stream has no pages."""
    letters = await DeadLetters.open(broker)
    assert [page async for page in letters.oldest_first()] == []
    assert [page async for page in letters.newest_first()] == []


async def test_a_broker_without_the_stream(fresh_nats: EmbeddedNats) -> None:
    """Says what is missing and who makes it; nothing is made by looking."""
    nc = await nats.connect(fresh_nats.url)
    try:
        with pytest.raises(Unavailable, match=r"no stream HEADRACE_DEAD; a router makes it"):
            await DeadLetters.open(nc)
        assert (await nc.jetstream().account_info()).streams == 0
    finally:
        await nc.close()


def test_names_are_checked() -> None:
    """A model that is no name could widen the subject to letters that were not meant."""
    with pytest.raises(InvalidRequest, match="model"):
        Wanted(model=">")
    with pytest.raises(InvalidRequest, match="tenant"):
        Wanted(tenant="a.b")


def test_a_list_keeps_no_content() -> None:
    """What is held for a table has neither headers nor body."""
    kept = a_letter(headers={"X": "1"}).without_body
    assert (kept.dead.body, dict(kept.dead.headers)) == (b"", {})
