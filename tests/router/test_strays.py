"""Messages on subjects that name no queue: each a dead letter, none in the way of a queue."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headrace.contract.queue_wire import DeadLetter, decode_dead_letter
from headrace.contract.subjects import REQUESTS_STREAM
from headrace.contract.values import OutcomeKind
from headrace.runtime.nats_server import EmbeddedNats
from tests.hostile.raw_nats import RawNats
from tests.router.conftest import Mesh, a_request
from tests.router.peers import worker

pytestmark = pytest.mark.integration

SUBJECTS = [
    b"hr.v1.req.*.normal.default",
    b"hr.v1.req.fake.*.*",
    b"hr.v1.req.>",
    b"hr.v1.req.fake.>",
    b"hr.v1.req.>.normal.default",
    b"hr.v1.req.fake.a>b.default",
    b"hr.v1.req.\xff\xfe.normal.default",
    b"hr.v1.req.fake.normal.\xed\xa0\x80",
    b"hr.v1.req.a\x0bb.normal.default",
    b"hr.v1.req.a\x00b.normal.default",
    b"hr.v1.req.fake.urgent.default",
    b"hr.v1.req.fake",
    b"hr.v1.req.fake.normal.default.more",
    b"hr.v1.req." + b"a" * 65 + b".normal.default",
    b"hr.v1.req." + b"b" * 3800,
    b"hr.v1.req." + b"c." * 1000 + b"c",
    'hr.v1.req."日本".normal.default'.encode(),
]


async def _letters(heard: Any, count: int) -> list[DeadLetter]:
    return [decode_dead_letter((await heard.next_msg(10)).data) for _ in range(count)]


async def _gone(mesh: Mesh) -> None:
    """Returns when the requests stream is empty."""
    async with asyncio.timeout(10):
        while True:
            if not (await mesh.nats.jetstream().stream_info(REQUESTS_STREAM)).state.messages:
                return
            await asyncio.sleep(0.05)


async def test_every_stray_is_a_dead_letter_and_the_queues_go_on(
    mesh: Mesh, fresh_nats: EmbeddedNats
) -> None:
    """Also those whose subject matches other queues, or can be named in no filter."""
    heard = await mesh.nats.subscribe("hr.v1.dead.>")
    router = await mesh.start_router("r-1")
    async with (
        RawNats(fresh_nats.url) as raw,
        worker(router.address, mesh.model) as one,
    ):
        for number, subject in enumerate(SUBJECTS):
            await raw.store(subject, b"body %d" % number, b"NATS/1.0\r\nKept: yes\r\n\r\n")
        request = a_request()
        await mesh.publish(request)
        await one.finish(await one.batch())
        assert (await mesh.result(request)).kind is OutcomeKind.COMPLETED
        letters = await _letters(heard, len(SUBJECTS))
        await _gone(mesh)
    assert sorted(letter.body for letter in letters) == sorted(b"body %d" % n for n in range(len(SUBJECTS)))
    assert {letter.headers.get("Kept") for letter in letters} == {"yes"}
    assert {letter.failure.code for letter in letters} == {"INVALID_REQUEST"}


async def test_strays_that_nobody_announced_are_found(mesh: Mesh, fresh_nats: EmbeddedNats) -> None:
    """They came while no router was there; a request among them is left where it is."""
    heard = await mesh.nats.subscribe("hr.v1.dead.>")
    await (await mesh.start_router("r-1")).stop()  # made the stream
    async with RawNats(fresh_nats.url) as raw:
        for subject in SUBJECTS:
            await raw.store(subject, b"body")
        request = a_request()
        await mesh.publish(request)
        router = await mesh.start_router("r-2")
        await _letters(heard, len(SUBJECTS))
        async with worker(router.address, mesh.model) as one:
            await one.finish(await one.batch())
            assert (await mesh.result(request)).kind is OutcomeKind.COMPLETED
        await _gone(mesh)


async def test_a_forged_announcement_takes_nothing_off_a_queue(mesh: Mesh, fresh_nats: EmbeddedNats) -> None:
    """What is buried is what the stream holds under a subject that is no queue's, whatever an announcement says."""
    heard = await mesh.nats.subscribe("hr.v1.dead.>")
    router = await mesh.start_router("r-1")
    request = a_request()
    await mesh.publish(request)
    for place in ("1", "-1", "999999999999", "9" * 30, "x", ""):
        await mesh.nats.publish("hr.v1.seen.no.queue", headers={"Nats-Sequence": place})
    async with RawNats(fresh_nats.url) as raw:
        await raw.store(b"hr.v1.req.stray", b"")
    assert [letter.subject for letter in await _letters(heard, 1)] == ["hr.v1.req.stray"]
    async with worker(router.address, mesh.model) as one:
        await one.finish(await one.batch())
        assert (await mesh.result(request)).kind is OutcomeKind.COMPLETED
