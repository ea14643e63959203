"""AdminService on a real gateway and broker; the other members are played."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from nats.aio.client import Client
from pydantic import SecretStr

from headrace.client.admin import AdminClient
from headrace.client.client import HeadraceClient
from headrace.contract.admin import DrainBegun, Member, MemberKind
from headrace.contract.errors import (
    InvalidRequest,
    NotAuthenticated,
    NotPermitted,
    Unavailable,
    UnknownMember,
)
from headrace.contract.log_level import LogLevel, log_level_named
from headrace.contract.subjects import ADMIN_STATUS, MEMBERS_BUCKET, log_subject
from headrace.contract.values import TokenChunk
from headrace.gateway.guard import Guard, is_local
from headrace.runtime.nats_admin import AdminAnswers
from headrace.runtime.nats_flush import flushed
from headrace.runtime.nats_server import EmbeddedNats
from headrace.runtime.settings import Settings
from tests.gateway.acting_router import LIMIT_S, ActingRouter
from tests.gateway.conftest import OVERRIDES, RunningGateway, running_gateway

pytestmark = pytest.mark.integration

ROUTER = Member(kind=MemberKind.ROUTER, id="r-1", address="host:7701", started_s=1.0, lanes=2)
WORKER = Member(kind=MemberKind.WORKER, id="w-1", router="r-1", started_s=2.0, requests=3, lanes=2)
OTHER = Member(kind=MemberKind.WORKER, id="a-1", router="r-1", started_s=3.0)
TOKEN = "an-operators-token"


class Played:
    """Members that answer, and what of them was drained."""

    def __init__(self, nc: Client, *members: Member) -> None:
        self.drained: list[Member] = []
        self._members = members
        self.levels: list[tuple[str, LogLevel]] = []
        self._answers = AdminAnswers(
            nc, members=lambda: members, drain=self._drain, log_level=self._log_level
        )

    async def listen(self, nc: Client) -> None:
        await self._answers.listen()
        await flushed(nc)

    def _drain(self, kind: MemberKind, member_id: str) -> DrainBegun | None:
        found = [member for member in self._members if (member.kind, member.id) == (kind, member_id)]
        self.drained += found
        return DrainBegun(member=found[0], grace_s=9.0) if found else None

    def _log_level(self, kind: MemberKind, member_id: str, level: LogLevel) -> Member | None:
        found = [member for member in self._members if (member.kind, member.id) == (kind, member_id)]
        self.levels += [(member.title, level) for member in found]
        return found[0] if found else None


PlayedFor = Callable[..., Awaitable[Played]]


@pytest.fixture
def played(nc: Client) -> PlayedFor:
    async def play(*members: Member) -> Played:
        there = Played(nc, *members)
        await there.listen(nc)
        return there

    return play


@pytest.fixture
def settings(fresh_nats: EmbeddedNats, settings_for: Callable[..., Settings]) -> Settings:
    return settings_for(fresh_nats, **(OVERRIDES | {"gateway.id": "gw-1", "gateway.drain_grace_s": 20.0}))


@pytest.fixture
async def gateway(settings: Settings, nc: Client) -> Any:
    async with running_gateway(settings) as running:
        yield running


@pytest.fixture
async def admin(gateway: RunningGateway) -> Any:
    async with AdminClient(gateway.address) as client:
        yield client


def titles(members: Sequence[Member]) -> list[str]:
    return [member.title for member in members]


async def test_everybody_who_answers_is_listed(
    gateway: RunningGateway, admin: AdminClient, played: PlayedFor
) -> None:
    """Routers, gateways, workers, each by id, as they say of themselves; this gateway among them."""
    await played(ROUTER, WORKER)
    await played(OTHER)
    found = await admin.members()
    assert titles(found) == ["router r-1", "gateway gw-1", "worker a-1", "worker w-1"]
    assert (found[0], found[2], found[3]) == (ROUTER, OTHER, WORKER)
    assert found[1].address == gateway.address
    assert found[1].started_s > 1e9


async def test_what_is_no_answer_is_passed_over(admin: AdminClient, played: PlayedFor, nc: Client) -> None:
    """Anybody on the broker may say anything."""

    async def babble(message: Any) -> None:
        await message.respond(b"\xff\xff")

    await nc.subscribe(ADMIN_STATUS, cb=babble)
    await played(ROUTER)
    assert titles(await admin.members()) == ["router r-1", "gateway gw-1"]


async def test_a_drain_reaches_who_is_meant(admin: AdminClient, played: PlayedFor) -> None:
    """And is answered with the member as it was, and how long it will take at most."""
    there = await played(ROUTER, WORKER)
    assert await admin.drain("w-1") == DrainBegun(member=WORKER, grace_s=9.0)
    assert await admin.drain("r-1", MemberKind.ROUTER) == DrainBegun(member=ROUTER, grace_s=9.0)
    assert there.drained == [WORKER, ROUTER]


async def test_an_unknown_member_is_refused_with_those_that_there_are(
    admin: AdminClient, played: PlayedFor
) -> None:
    """Of the kind that was asked for. Nobody is drained."""
    there = await played(ROUTER, WORKER)
    with pytest.raises(UnknownMember) as refused:
        await admin.drain("w-2")
    assert refused.value.known == ("router r-1", "gateway gw-1", "worker w-1")
    with pytest.raises(UnknownMember) as refused:
        await admin.drain("w-1", MemberKind.GATEWAY)
    assert refused.value.known == ("gateway gw-1",)
    with pytest.raises(UnknownMember):
        await admin.drain("w.*")
    with pytest.raises(InvalidRequest, match="id: must say which"):
        await admin.drain("")
    assert there.drained == []


async def test_an_id_of_two_kinds_needs_the_kind(admin: AdminClient, played: PlayedFor) -> None:
    """The refusal names both; with the kind it is clear."""
    twin = Member(kind=MemberKind.WORKER, id="gw-1", router="r-1")
    there = await played(twin)
    with pytest.raises(InvalidRequest, match="kind: must be given: there is a gateway and worker") as refused:
        await admin.drain("gw-1")
    assert refused.value.field == "kind"
    await admin.drain("gw-1", MemberKind.WORKER)
    assert there.drained == [twin]


async def test_a_level_reaches_who_is_meant(
    admin: AdminClient, played: PlayedFor, nc: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """And nobody else; who is not there, and what is no level, are refused with what there is. What anybody else may
    send on NATS changes nothing.
    """
    there = await played(ROUTER, WORKER)
    assert await admin.set_log_level("w-1", LogLevel.DEBUG) == WORKER
    assert await admin.set_log_level("r-1", LogLevel.AS_SET, MemberKind.ROUTER) == ROUTER
    assert there.levels == [("worker w-1", LogLevel.DEBUG), ("router r-1", LogLevel.AS_SET)]
    with pytest.raises(UnknownMember) as refused:
        await admin.set_log_level("w-2", LogLevel.DEBUG)
    assert refused.value.known == ("router r-1", "gateway gw-1", "worker w-1")
    with pytest.raises(InvalidRequest, match=r"level: must be one of debug, .*as-set \(was 'loud'\)"):
        log_level_named("loud")
    for body in (b"\xff", b"", b"\x18\x63"):  # no message; no level; level 99
        with pytest.raises(TimeoutError):
            await nc.request(log_subject(MemberKind.WORKER, "w-1"), body, timeout=0.1)
    assert len(there.levels) == 2


async def test_a_gateway_changes_its_own_level(gateway: RunningGateway, admin: AdminClient) -> None:
    """At once, and back to what its settings say."""
    ours = logging.getLogger("headrace")
    before = ours.level
    try:
        assert (await admin.set_log_level("gw-1", LogLevel.ERROR)).id == "gw-1"
        assert ours.level == logging.ERROR
        await admin.set_log_level("gw-1", LogLevel.AS_SET)
        assert ours.level == logging.INFO
    finally:
        ours.setLevel(before)


async def test_a_gateway_drains_itself(gateway: RunningGateway, admin: AdminClient, nc: Client) -> None:
    """Its open stream gets to its end, with the drain seen by operators meanwhile; then it ends as after a signal."""
    async with ActingRouter(nc) as router, HeadraceClient(gateway.address) as client:
        async with asyncio.timeout(LIMIT_S):
            await router.joins.get()
        stream = client.generate(model="tiny", prompt="x")
        await anext(stream)
        taken = await router.take()
        begun = await admin.drain("gw-1")
        assert (begun.member.requests, begun.member.draining, begun.grace_s) == (1, False, 20.0)
        (now,) = await admin.members()
        assert (now.id, now.draining, now.requests) == ("gw-1", True, 1)
        entry = await (await nc.jetstream().key_value(MEMBERS_BUCKET)).get("gateway.gw-1")
        assert json.loads(entry.value or b"")["draining"]
        router.tokens(taken.id, 0, "ok")
        await router.finish(taken, "ok")
        async with aclosing(stream):
            text = "".join([event.text async for event in stream if isinstance(event, TokenChunk)])
        assert text == "ok"
        async with asyncio.timeout(LIMIT_S):
            await gateway.task


async def test_a_gateway_is_a_member_until_it_goes(
    gateway: RunningGateway, admin: AdminClient, nc: Client
) -> None:
    """Its entry in the bucket of members says where it is, and goes with it."""
    (itself,) = await admin.members()
    watcher = await (await nc.jetstream().key_value(MEMBERS_BUCKET)).watch("gateway.gw-1")
    async with asyncio.timeout(LIMIT_S):
        async for entry in watcher:
            if entry is None:
                continue  # all that was there already has come
            if entry.operation == "DEL":
                break
            known = {"id": "gw-1", "address": gateway.address, "started": itself.started_s, "metrics": ""}
            assert {**json.loads(entry.value), "draining": False} == {**known, "draining": False}
            gateway.stop()
        await gateway.task


async def test_without_a_broker_it_is_said(
    gateway: RunningGateway, admin: AdminClient, fresh_nats: EmbeddedNats
) -> None:
    """Rather than that nobody is there."""
    fresh_nats.stop()
    with pytest.raises(Unavailable, match="NATS"):
        async with asyncio.timeout(LIMIT_S):
            while True:  # the loss is noticed soon, and nothing tells when
                await admin.members()


# Who may.


@pytest.mark.parametrize(
    ("token", "problem"), [("", "is missing"), ("another-token", "is not"), (TOKEN + "x", "is not")]
)
async def test_with_a_token_whoever_does_not_bring_it_is_refused(
    settings: Settings, nc: Client, token: str, problem: str
) -> None:
    """From this machine too, and nothing is done."""
    async with (
        guarded(settings) as gateway,
        AdminClient(gateway.address, token=token) as stranger,
        AdminClient(gateway.address, token=TOKEN) as operator,
    ):
        with pytest.raises(NotAuthenticated, match=problem):
            await stranger.members()
        with pytest.raises(NotAuthenticated):
            await stranger.drain("gw-1")
        assert [member.draining for member in await operator.members()] == [False]


def guarded(settings: Settings) -> Any:
    own = settings.gateway.model_copy(update={"admin_token": SecretStr(TOKEN)})
    return running_gateway(settings.model_copy(update={"gateway": own}))


class Caller:
    """A call, as far as the guard looks at it."""

    def __init__(self, peer: str, **metadata: str) -> None:
        self._peer = peer
        self._metadata = tuple(metadata.items())

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> Any:
        return self._metadata


LOCAL = ["ipv4:127.0.0.1:5000", "ipv4:127.8.9.1:1", "ipv6:%5B::1%5D:5000", "ipv6:[::1]:5000", "unix:/run/x"]
LOCAL += ["ipv6:%5B::ffff:127.0.0.1%5D:5000"]
AFAR = [
    "ipv4:10.0.0.7:5000",
    "ipv6:%5B2001:db8::1%5D:5000",
    "ipv6:%5Bfe80::1%25eth0%5D:5000",
    "",
    "x",
    "ipv4:",
]
AFAR += ["ipv6:%5B::ffff:10.0.0.7%5D:5000", "ipv4:127.0.0.1.evil.example:1"]


@pytest.mark.parametrize("peer", LOCAL)
def test_without_a_token_this_machine_may(peer: str) -> None:
    """However gRPC writes its address."""
    assert is_local(peer)
    Guard(None).check(Caller(peer))  # type: ignore[arg-type]


@pytest.mark.parametrize("peer", AFAR)
def test_without_a_token_no_other_machine_may(peer: str) -> None:
    """The refusal says which setting would let it; with the token it may."""
    call: Any = Caller(peer, authorization=f"Bearer {TOKEN}")
    with pytest.raises(NotPermitted, match=r"gateway\.admin_token"):
        Guard(None).check(call)
    Guard(SecretStr(TOKEN)).check(call)


def test_the_token_is_in_no_error() -> None:
    """Neither the gateway's nor the one that was brought."""
    with pytest.raises(NotAuthenticated) as refused:
        Guard(SecretStr(TOKEN)).check(Caller("ipv4:127.0.0.1:1", authorization="Bearer sesame-open"))  # type: ignore[arg-type]
    assert TOKEN not in str(refused.value)
    assert "sesame" not in str(refused.value)
