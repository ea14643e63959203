"""A whole router answers operators on NATS."""

from __future__ import annotations

import asyncio
import logging

import pytest

from headrace.contract.admin import Member, MemberKind
from headrace.contract.admin_wire import (
    decode_drain_begun,
    decode_log_level_set,
    decode_status,
    encode_set_log_level,
)
from headrace.contract.log_level import LogLevel
from headrace.contract.subjects import ADMIN_STATUS, drain_subject, log_subject
from tests.router.conftest import Mesh, a_request
from tests.router.peers import ScriptedWorker, gateway, worker

pytestmark = pytest.mark.integration


async def status(mesh: Mesh) -> tuple[Member, ...]:
    return decode_status((await mesh.nats.request(ADMIN_STATUS, timeout=10)).data)


async def told_to_leave(hands: ScriptedWorker) -> None:
    while not (await hands.receive()).leave:
        pass


async def test_a_router_tells_of_itself_and_its_workers(mesh: Mesh) -> None:
    """What it holds, and which of the lanes run."""
    router = await mesh.start_router("r-1")
    (alone,) = await status(mesh)
    assert (alone.kind, alone.id, alone.address) == (MemberKind.ROUTER, "r-1", router.address)
    assert (alone.lanes, alone.models, alone.draining) == (0, (), False)
    assert alone.started_s > 1e9
    async with worker(router.address, mesh.model, lanes=2, worker_id="w-1") as hands, gateway(router.address):
        await mesh.publish(a_request(gateway="gw-1"))
        await hands.batch()
        own, its = await status(mesh)
        assert (own.requests, own.lanes, own.busy_lanes, own.models) == (1, 2, 1, ("fake",))
        assert (its.kind, its.id, its.router) == (MemberKind.WORKER, "w-1", "r-1")
        assert (its.requests, its.lanes, its.busy_lanes, its.models) == (1, 2, 1, ("fake",))


async def test_a_router_that_is_asked_to_drain_ends(mesh: Mesh) -> None:
    """As after a signal; it answers with what it was, and that it takes its grace at most."""
    router = await mesh.start_router("r-1")
    answer = await mesh.nats.request(drain_subject(MemberKind.ROUTER, "r-1"), timeout=10)
    begun = decode_drain_begun(answer.data)
    assert (begun.member.id, begun.grace_s) == ("r-1", 1.0)
    assert not begun.member.draining
    async with asyncio.timeout(20):
        await router.task


async def test_a_worker_is_asked_through_its_router(mesh: Mesh) -> None:
    """The one that has it says so to the worker and to the operator; another one says nothing."""
    await mesh.start_router("r-1")
    other = await mesh.start_router("r-2")
    async with worker(other.address, mesh.model, worker_id="w-1") as hands:
        answer = await mesh.nats.request(drain_subject(MemberKind.WORKER, "w-1"), timeout=10)
        begun = decode_drain_begun(answer.data)
        assert (begun.member.id, begun.member.router) == ("w-1", "r-2")
        async with asyncio.timeout(10):
            await told_to_leave(hands)


async def test_a_worker_hears_through_its_router_how_much_to_log(mesh: Mesh) -> None:
    """Once: what is sent afterwards says nothing of it."""
    router = await mesh.start_router("r-1")
    async with worker(router.address, mesh.model, worker_id="w-1") as hands, gateway(router.address):
        asked = encode_set_log_level(MemberKind.WORKER, "w-1", LogLevel.DEBUG).SerializeToString()
        answer = await mesh.nats.request(log_subject(MemberKind.WORKER, "w-1"), asked, timeout=10)
        assert decode_log_level_set(answer.data).id == "w-1"
        async with asyncio.timeout(10):
            while (level := (await hands.receive()).log_level) is None:
                pass
        assert level is LogLevel.DEBUG
        await mesh.publish(a_request(gateway="gw-1"))
        async with asyncio.timeout(10):
            while not (said := await hands.receive()).start:
                pass
        assert said.log_level is None


async def test_a_router_changes_its_own_level(mesh: Mesh) -> None:
    """And says so in its log."""
    await mesh.start_router("r-1")
    ours = logging.getLogger("headrace")
    before = ours.level
    try:
        asked = encode_set_log_level(None, "r-1", LogLevel.ERROR).SerializeToString()
        answer = await mesh.nats.request(log_subject(MemberKind.ROUTER, "r-1"), asked, timeout=10)
        assert decode_log_level_set(answer.data).id == "r-1"
        assert ours.level == logging.ERROR
    finally:
        ours.setLevel(before)


async def test_nobody_answers_for_a_member_that_is_not_there(mesh: Mesh) -> None:
    """Nor do the others drain."""
    router = await mesh.start_router("r-1")
    for kind in MemberKind:
        with pytest.raises(TimeoutError):
            await mesh.nats.request(drain_subject(kind, "nobody"), timeout=0.3)
    assert not router.shutdown.draining
