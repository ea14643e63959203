"""One trace of a raw producer's request, over the loss of its worker and of its router."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.aio.msg import Msg

from headrace.client.admin import AdminClient
from headrace.contract.admin import Member, MemberKind
from headrace.contract.ids import new_request_id
from headrace.contract.subjects import result_subject
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from headrace.runtime import trace_names as names
from tests.integration.processes import Processes
from tests.otlp_receiver import OtlpReceiver, ReceivedSpan

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

LIMIT_S = 60.0
TOKENS = 250
PROCESSES = ("router-1", "router-2", "gateway", "worker-1", "worker-2")
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Mesh:
    """Two routers, two workers, a gateway to ask who runs what, and a collector."""

    def __init__(self, processes: Processes, collector: OtlpReceiver, nc: Client, admin: AdminClient) -> None:
        self.processes = processes
        self.collector = collector
        self.nats = nc
        self.admin = admin

    async def ask(self, traceparent: str = "") -> tuple[str, AsyncIterator[Msg]]:
        """A request of a raw producer, with or without a trace of its own: its id, and its events."""
        request_id, inbox = new_request_id(), self.nats.new_inbox()
        events = await self.nats.subscribe(inbox)
        ask = {
            "id": request_id,
            "prompt": "why",
            "max_tokens": TOKENS,
            "sampling": {"ignore_end": True},
            "reply_to": inbox,
        }
        headers = {"traceparent": traceparent} if traceparent else None
        await self.nats.jetstream().publish(
            "hr.v1.req.fake.normal.default", json.dumps(ask).encode(), headers=headers
        )
        return request_id, events.messages

    async def has(self, kind: MemberKind, holds: Callable[[Member], bool]) -> str:
        """The process of that kind that does so, once there is one."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                for member in await self.admin.members():
                    if member.kind is kind and holds(member):
                        return member.id
                await asyncio.sleep(0.05)  # members tell when asked

    async def lose(self, kind: MemberKind) -> str:
        """Kills the process that has the only request, and starts it again; its name."""
        name = await self.has(kind, lambda member: member.requests > 0)
        await self.processes.kill(name)
        await self.processes.start(name)
        return name

    async def whole(self) -> None:
        """Returns when every process is there."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                there = {member.id for member in await self.admin.members()}
                if there == set(PROCESSES):
                    return
                await asyncio.sleep(0.05)  # members tell when asked


class Named(Processes):
    """Processes that are members by the names that they have here."""

    async def start(self, name: str, **environment: str) -> None:
        kind = name.partition("-")[0].upper()
        own = {"HEADRACE_WORKER_NAME": name} if kind == "WORKER" else {f"HEADRACE_{kind}_ID": name}
        await super().start(name, **{**own, **environment})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    folder: Path = tmp_path_factory.mktemp("mesh")
    store = ModelStore(folder / "models")
    install_fake_model(store, timing=FakeTiming(step_s=0.02))
    async with OtlpReceiver() as collector:
        environment = {
            **collector.environment(),
            "HEADRACE_WORKER_LANES": "1",
            "HEADRACE_ROUTER_CLAIM_WAIT_S": "0.2",
        }
        async with (
            Named(folder, models=store.root, names=PROCESSES, environment=environment) as processes,
            AdminClient(processes.address) as admin,
        ):
            nc = await nats.connect(processes.nats_url)
            there = Mesh(processes, collector, nc, admin)
            await there.whole()
            yield there
            await nc.close()


async def after(events: AsyncIterator[Msg], index: int) -> None:
    """Returns when the tokens have come that far."""
    async with asyncio.timeout(LIMIT_S):
        async for message in events:
            event = json.loads(message.data)
            assert "finished" not in event
            if event["tokens"]["first_index"] >= index:
                return


async def ended(mesh: Mesh, request_id: str) -> None:
    """Returns when it has its durable outcome, which is `completed`."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                found = await mesh.nats.jetstream().get_last_msg(
                    "HEADRACE_RESULTS", result_subject("default", request_id)
                )
            except (nats.js.errors.NotFoundError, nats.errors.TimeoutError):
                await asyncio.sleep(0.05)
                continue
            assert json.loads(found.data or b"")["kind"] == "OUTCOME_KIND_COMPLETED"
            return


def of(spans: Sequence[ReceivedSpan], request_id: str) -> list[ReceivedSpan]:
    """Those of a request, in the order of their start."""
    mine = [
        s
        for s in spans
        if request_id in (s.attributes.get(names.REQUEST_ID), s.attributes.get("messaging.message.id"))
    ]
    return sorted(mine, key=lambda span: span.start_ns)


def called(spans: Sequence[ReceivedSpan], request_id: str, name: str) -> int:
    """How many spans of a request begin with that name."""
    return sum(span.name.startswith(name) for span in of(spans, request_id))


async def scheduled(mesh: Mesh, request_id: str, times: int) -> None:
    """Returns when the collector has heard that it was so often."""
    await mesh.collector.wait_for(
        lambda spans: called(spans, request_id, names.SPAN_SCHEDULE) >= times, LIMIT_S
    )


async def lost_twice(mesh: Mesh, traceparent: str) -> tuple[str, str, str]:
    """A request whose worker, and then whose router is killed: its id, and the two."""
    await mesh.whole()
    request_id, events = await mesh.ask(traceparent)
    await after(events, 5)
    worker = await mesh.lose(MemberKind.WORKER)
    await after(events, 15)
    if traceparent.endswith("-01"):  # of others nothing is heard
        await scheduled(mesh, request_id, 2)
    router = await mesh.lose(MemberKind.ROUTER)
    await ended(mesh, request_id)
    return request_id, worker, router


def check_whole(spans: Sequence[ReceivedSpan], request_id: str, lost_router: str) -> set[str]:
    """Every part that ended is told, in one trace; nothing hangs in the air but from the hold that the killed router
    had not ended. Gives the parents that are in no span.
    """
    mine = of(spans, request_id)
    assert len({span.trace_id for span in mine}) == 1
    by_router: dict[str, set[str]] = {}
    for span in mine:
        if router := span.attributes.get(names.ROUTER):
            by_router.setdefault(router, set()).add(span.name)
    heir = next(router for router in by_router if router != lost_router)
    assert {names.SPAN_QUEUE, names.SPAN_SCHEDULE} <= by_router[lost_router]
    assert {names.SPAN_QUEUE, names.SPAN_SCHEDULE, names.SPAN_PROCESS_REQUEST} <= by_router[heir]
    # The worker that lived on tells of the run that the lost router had ordered.
    runs = [span for span in mine if span.name.startswith("generate")]
    assert len(runs) >= 2
    assert len([span for span in mine if span.name == names.SPAN_SCHEDULE]) == 3
    # A router that has lost its only worker gives the request back: that hold has ended without an outcome.
    (hold,) = [
        span for span in mine if span.name == names.SPAN_PROCESS_REQUEST and names.OUTCOME in span.attributes
    ]
    assert hold.attributes[names.OUTCOME] == "completed"
    assert "claimed" in {name for name, _ in hold.events}
    known = {span.span_id for span in mine}
    return {span.parent_id for span in mine} - known - {""}


async def test_one_trace_goes_on_over_the_loss_of_worker_and_router(mesh: Mesh) -> None:
    """The producer's own trace: all that had ended is told, by both routers and by the worker that lived on, and only
    the hold of the router that was killed is missing.
    """
    request_id, _, router = await lost_twice(mesh, f"00-{TRACE}-{PARENT}-01")

    def told(spans: Sequence[ReceivedSpan]) -> bool:
        done = any(
            names.OUTCOME in s.attributes and s.name == names.SPAN_PROCESS_REQUEST
            for s in of(spans, request_id)
        )
        return done and called(spans, request_id, "generate") >= 2  # workers may tell theirs later

    spans = await mesh.collector.wait_for(told, 20)
    unknown = check_whole(spans, request_id, router)
    assert {span.trace_id for span in of(spans, request_id)} == {TRACE}
    assert PARENT in unknown
    assert len(unknown - {PARENT}) == 1  # the hold that was lost


async def test_a_request_without_a_trace_has_one_trace_over_a_loss(mesh: Mesh) -> None:
    """The router that goes on begins no second one: the id of the trace follows from the request's."""
    await mesh.whole()
    request_id, events = await mesh.ask()
    await after(events, 5)
    await scheduled(mesh, request_id, 1)
    await mesh.lose(MemberKind.ROUTER)
    await ended(mesh, request_id)

    def told(spans: Sequence[ReceivedSpan]) -> bool:
        return any(
            names.OUTCOME in s.attributes and s.name == names.SPAN_PROCESS_REQUEST
            for s in of(spans, request_id)
        )

    spans = await mesh.collector.wait_for(told, 20)
    mine = of(spans, request_id)
    assert len({span.attributes[names.ROUTER] for span in mine if names.ROUTER in span.attributes}) == 2
    assert len({span.trace_id for span in mine}) == 1


async def test_what_the_producer_does_not_sample_is_told_by_nobody(mesh: Mesh) -> None:
    """Not before the losses, and not after them; the next request, which is sampled, is."""
    silent, _, _ = await lost_twice(mesh, f"00-{'1' * 32}-{PARENT}-00")
    await mesh.whole()
    loud, _ = await mesh.ask(f"00-{'2' * 32}-{PARENT}-01")
    await ended(mesh, loud)

    def told(spans: Sequence[ReceivedSpan]) -> bool:
        return any(s.name == names.SPAN_PROCESS_REQUEST for s in of(spans, loud))

    spans = await mesh.collector.wait_for(told, 20)
    assert of(spans, silent) == []
    assert [span for span in spans if span.trace_id == "1" * 32] == []
    remembered = {each.request_id for each in (await mesh.admin.traces(1000)).traces}
    assert silent not in remembered
