"""Requests that are ended early: in every way, waiting and running, over a mesh of real processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client

from headrace.client.client import HeadraceClient
from headrace.contract.errors import DeadlinePassed, Overloaded
from headrace.contract.ids import new_request_id
from headrace.contract.subjects import cancel_subject
from headrace.contract.values import Outcome, OutcomeKind, TokenChunk
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from tests.integration.processes import Processes

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

STEP_S = 0.02
LONG = 3000
"""Tokens: a minute's worth, which no test waits for."""
LIMIT_S = 60.0
WAYS = ("rpc", "nats", "disconnect", "deadline")
UNSERVED = {way: f"unserved-{way}" for way in (*WAYS, "elsewhere")}
"""Models whose requests wait in the broker until a worker comes for one: one per test, for a router that has asked the
broker for more of a model, because a worker was there, holds what comes of it.
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Processes]:
    """Two gateways, and a worker that runs one request at a time."""
    folder = tmp_path_factory.mktemp("mesh")
    install_fake_model(ModelStore(folder / "models"), timing=FakeTiming(step_s=STEP_S))
    for model in UNSERVED.values():
        install_fake_model(ModelStore(folder / "models"), model)
    environment = {
        "HEADRACE_WORKER_LANES": "1",
        "HEADRACE_WORKER_MAX_BATCH": "1",
        "HEADRACE_WORKER_MODELS": "fake",
    }
    names = ("router", "gateway", "gateway-2", "worker", "worker-2")
    async with Processes(folder, models=folder / "models", environment=environment, names=names) as running:
        await running.stop("worker-2")  # it is started for another model when a test wants it
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(mesh: Processes) -> AsyncIterator[HeadraceClient]:
    async with HeadraceClient(mesh.address) as connected:
        yield connected


@pytest_asyncio.fixture(loop_scope="module")
async def elsewhere(mesh: Processes) -> AsyncIterator[HeadraceClient]:
    """At the second gateway."""
    async with HeadraceClient(mesh.address_of("gateway-2")) as connected:
        yield connected


@pytest_asyncio.fixture(loop_scope="module")
async def nc(mesh: Processes) -> AsyncIterator[Client]:
    connection = await nats.connect(mesh.nats_url)
    yield connection
    await connection.close()


@dataclass
class Asked:
    """A request whose client reads it in the background, and how it is ended."""

    client: HeadraceClient
    way: str
    model: str
    request_id: str
    timeout_s: float | None = None
    seen: int = -1
    """Tokens that its client has; -1 = it is not accepted yet."""
    grown: asyncio.Condition | None = None
    reading: asyncio.Task[OutcomeKind] | None = None

    @classmethod
    def begin(cls, client: HeadraceClient, way: str, timeout_s: float, model: str = "fake") -> Asked:
        """`timeout_s` is for the way of the deadline."""
        asked = cls(client, way, model, new_request_id(), timeout_s if way == "deadline" else None)
        asked.grown = asyncio.Condition()
        asked.reading = asyncio.create_task(asked._read())
        return asked

    async def _read(self) -> OutcomeKind:
        ask = {"timeout_s": self.timeout_s} if self.timeout_s is not None else {}
        events = self.client.generate(
            model=self.model,
            prompt="go on",
            max_tokens=LONG,
            ignore_end=True,
            request_id=self.request_id,
            **ask,  # type: ignore[arg-type]
        )
        try:
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Outcome):
                        return event.kind
                    self.seen = event.next_index if isinstance(event, TokenChunk) else max(0, self.seen)
                    assert self.grown is not None
                    async with self.grown:
                        self.grown.notify_all()
        except DeadlinePassed:
            return OutcomeKind.EXPIRED
        except Overloaded:
            return OutcomeKind.REJECTED
        raise AssertionError("it ended without an outcome")

    async def at_token(self, index: int) -> None:
        """Returns when its client has that many tokens; 0 = when it is accepted."""
        assert self.grown is not None
        async with asyncio.timeout(LIMIT_S), self.grown:
            await self.grown.wait_for(lambda: self.seen >= index)

    async def end(self, nc: Client) -> Outcome:
        """Ends it in its way, and gives its outcome."""
        assert self.reading is not None
        match self.way:
            case "rpc":
                assert await self.client.cancel(self.request_id) is OutcomeKind.CANCELLED
            case "nats":
                await nc.publish(cancel_subject("default", self.request_id))
            case "disconnect":
                self.reading.cancel()
        kind: OutcomeKind | None = None
        async with asyncio.timeout(LIMIT_S):
            with suppress(asyncio.CancelledError):
                kind = await self.reading
        outcome = await self.client.result(self.request_id, wait_s=LIMIT_S)
        assert kind in (None, outcome.kind), "the client is told what is durable"
        if self.way == "deadline":
            # One that waits is told at once where it is known that it would wait for longer.
            assert outcome.kind in (OutcomeKind.EXPIRED, OutcomeKind.REJECTED)
            assert outcome.kind is OutcomeKind.EXPIRED or not outcome.usage.attempts
        else:
            assert outcome.kind is OutcomeKind.CANCELLED
        return outcome


async def lane_is_free(client: HeadraceClient) -> float:
    """The seconds that a short request takes now."""
    began = time.monotonic()
    await client.complete(model="fake", prompt="probe", max_tokens=1)
    return time.monotonic() - began


@pytest.mark.parametrize("way", WAYS)
async def test_a_running_request_stops_within_a_step(
    client: HeadraceClient, elsewhere: HeadraceClient, nc: Client, way: str
) -> None:
    """Its lane is free at once; what it made is counted and kept in the outcome; who attached elsewhere hears of it."""
    asked = Asked.begin(client, way, timeout_s=1.0)
    await asked.at_token(10)
    following = None if way == "disconnect" else asyncio.create_task(follow(elsewhere, asked.request_id))
    outcome = await asked.end(nc)
    free_s = await lane_is_free(client)
    made = outcome.usage.output_tokens
    assert made == len(outcome.token_ids) == len(outcome.text_lengths) >= 10
    assert len(outcome.text) == sum(outcome.text_lengths)
    assert made <= asked.seen + 25, "half a second of a busy machine; it was asked for a minute's worth"
    assert free_s < 2.0
    if following is not None:
        tokens, end = await following
        assert tokens == outcome.token_ids[: len(tokens)]
        assert end.kind is outcome.kind


async def follow(client: HeadraceClient, request_id: str) -> tuple[tuple[int, ...], Outcome]:
    """All that attaching gives; an end that is an error as well."""
    tokens: tuple[int, ...] = ()
    try:
        async with asyncio.timeout(LIMIT_S):
            async for event in client.attach(request_id):
                if isinstance(event, TokenChunk):
                    tokens += event.token_ids
                elif isinstance(event, Outcome):
                    return tokens, event
    except DeadlinePassed:
        return tokens, await client.result(request_id)
    raise AssertionError("it ended without an outcome")


@pytest.mark.parametrize("way", WAYS)
async def test_a_request_that_waits_for_a_lane_is_ended_where_it_is(
    client: HeadraceClient, nc: Client, way: str
) -> None:
    """Nothing is computed for it, and the one that runs is not disturbed."""
    running = Asked.begin(client, "rpc", timeout_s=LIMIT_S)
    await running.at_token(1)
    waiting = Asked.begin(client, way, timeout_s=0.6)
    await waiting.at_token(0)
    await asyncio.sleep(0.2)  # so that the router holds it by now; in the broker it is ended as well
    outcome = await waiting.end(nc)
    assert (outcome.usage.output_tokens, outcome.token_ids, outcome.usage.attempts) == (0, (), 0)
    seen = running.seen
    await running.at_token(seen + 5)
    await running.end(nc)


@pytest.mark.parametrize("way", WAYS)
async def test_a_request_that_waits_in_the_broker_is_never_computed(
    mesh: Processes, client: HeadraceClient, elsewhere: HeadraceClient, nc: Client, way: str
) -> None:
    """No router has it while no worker runs its model. A gateway ends it at once; where none is asked, the router does
    that pulls it. Who attached elsewhere is told.
    """
    waiting = Asked.begin(client, way, timeout_s=0.6, model=UNSERVED[way])
    await waiting.at_token(0)
    if way == "disconnect":  # for who attaches keeps it
        assert (await waiting.end(nc)).usage.attempts == 0
        return
    following = asyncio.create_task(follow(elsewhere, waiting.request_id))
    ending = asyncio.create_task(waiting.end(nc))
    if way == "rpc":
        assert (await following)[1].kind is OutcomeKind.CANCELLED
        assert (await ending).usage.attempts == 0
        return
    await asyncio.sleep(1.0)  # so that it is ended before anybody can compute it
    await mesh.start("worker-2", HEADRACE_WORKER_MODELS=UNSERVED[way])
    outcome = await ending
    assert (outcome.usage.output_tokens, outcome.usage.attempts) == (0, 0)
    assert (await following)[1].kind is outcome.kind
    await mesh.stop("worker-2")


async def test_cancelling_at_another_gateway_ends_a_stream_that_waits(
    client: HeadraceClient, elsewhere: HeadraceClient
) -> None:
    """Though no router is there to tell of it."""
    waiting = Asked.begin(client, "rpc", timeout_s=LIMIT_S, model=UNSERVED["elsewhere"])
    await waiting.at_token(0)
    assert await elsewhere.cancel(waiting.request_id) is OutcomeKind.CANCELLED
    assert waiting.reading is not None
    async with asyncio.timeout(LIMIT_S):
        assert await waiting.reading is OutcomeKind.CANCELLED
