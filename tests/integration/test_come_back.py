"""Clients that lose their gateway, or leave, and come back to their requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import pytest
import pytest_asyncio

from headrace.client.client import HeadraceClient
from headrace.client.unbroken import Event
from headrace.contract.errors import DuplicateRequest, InvalidRequest
from headrace.contract.ids import new_request_id
from headrace.contract.values import Accepted, Outcome, OutcomeKind, TokenChunk
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from tests.integration.processes import Processes

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

PROMPT = "come back"
TOKENS = 120
NAMES = ("router", "router-2", "gateway", "gateway-2", "worker")
LIMIT_S = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Processes]:
    """Two routers, two gateways, and a worker with the fake engine at 100 tokens a second."""
    folder = tmp_path_factory.mktemp("mesh")
    install_fake_model(ModelStore(folder / "models"), timing=FakeTiming(step_s=0.01))
    environment = {"HEADRACE_GATEWAY_DRAIN_GRACE_S": "0.3"}
    async with Processes(folder, models=folder / "models", environment=environment, names=NAMES) as running:
        await running.ready()
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(mesh: Processes) -> AsyncIterator[HeadraceClient]:
    """Knows both gateways."""
    async with HeadraceClient(f"{mesh.address},{mesh.address_of('gateway-2')}") as connected:
        yield connected


@pytest_asyncio.fixture(loop_scope="module")
async def elsewhere(mesh: Processes) -> AsyncIterator[HeadraceClient]:
    """Knows the second gateway alone."""
    async with HeadraceClient(mesh.address_of("gateway-2")) as connected:
        yield connected


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def expected(mesh: Processes) -> Outcome:
    """What the undisturbed run gives."""
    async with HeadraceClient(mesh.address) as client, asyncio.timeout(LIMIT_S):
        return await client.complete(model="fake", prompt=PROMPT, max_tokens=TOKENS, ignore_end=True)


class Read:
    """What came of a stream: Accepted once, each index once, in order."""

    def __init__(self, from_index: int = 0) -> None:
        self.request_id = ""
        self.tokens: TokenChunk | None = None
        self.outcome: Outcome | None = None
        self._from_index = from_index

    @property
    def next_index(self) -> int:
        return self._from_index if self.tokens is None else self.tokens.next_index

    def take(self, event: Event) -> None:
        match event:
            case Accepted():
                assert not self.request_id, "accepted once"
                self.request_id = event.request_id
            case TokenChunk():
                assert self.request_id, "accepted first"
                assert event.first_index == self.next_index, "no gap, no repeat"
                self.tokens = event if self.tokens is None else self.tokens.joined(event)
            case Outcome():
                self.outcome = event

    async def to(self, events: AsyncGenerator[Event, None], index: int | None = None) -> None:
        """Reads until token `index` is there, or to the end."""
        async with asyncio.timeout(LIMIT_S):
            async for event in events:
                self.take(event)
                if index is not None and self.next_index >= index:
                    return


def check(read: Read, expected: Outcome, from_index: int = 0) -> None:
    """It is the undisturbed run's output from that index on, with its end."""
    output = expected.output
    assert output is not None
    rest = output.since(from_index)
    assert read.outcome is not None
    assert read.outcome.kind is OutcomeKind.COMPLETED
    assert read.outcome.usage.output_tokens == TOKENS
    if rest is None:
        assert read.tokens is None
    else:
        assert read.tokens is not None
        assert (read.tokens.token_ids, read.tokens.text) == (rest.token_ids, rest.text)


def ended_count(mesh: Processes, request_id: str) -> int:
    """How many outcomes the routers have made of a request."""
    logs = mesh.log("router") + mesh.log("router-2")
    return sum('"request.ended"' in line and request_id in line for line in logs.splitlines())


def generate(client: HeadraceClient, **more: str | bool) -> AsyncGenerator[Event, None]:
    return client.generate(model="fake", prompt=PROMPT, max_tokens=TOKENS, ignore_end=True, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_stream_outlives_its_gateway(
    mesh: Processes, client: HeadraceClient, expected: Outcome, how: str
) -> None:
    """It goes on at the second one, from its last index; the request is computed once, and the caller sees nothing."""
    read = Read()
    events = generate(client)
    await read.to(events, 30)
    if how == "killed":
        await mesh.kill("gateway")
    else:
        assert await mesh.stop("gateway") == 0
    await read.to(events)
    check(read, expected)
    assert read.outcome is not None
    assert read.outcome.usage.attempts == 1
    assert ended_count(mesh, read.request_id) == 1
    await mesh.start("gateway")
    await mesh.ready()


async def test_attach_while_it_runs(
    client: HeadraceClient, elsewhere: HeadraceClient, expected: Outcome
) -> None:
    """From its first token, from one that is there already, and from one that is to come; at either gateway."""
    leader = Read()
    events = generate(client)
    await leader.to(events, 40)
    followers = [(one, index, Read(index)) for one in (client, elsewhere) for index in (0, 17, 100)]
    await asyncio.gather(
        leader.to(events), *(read.to(one.attach(leader.request_id, index)) for one, index, read in followers)
    )
    check(leader, expected)
    for _, index, read in followers:
        check(read, expected, index)


async def test_attach_after_it_ran(
    client: HeadraceClient, elsewhere: HeadraceClient, expected: Outcome
) -> None:
    """From any index, up to the last; beyond it there is nothing to attach to."""
    accepted = await client.submit(model="fake", prompt=PROMPT, max_tokens=TOKENS, ignore_end=True)
    await client.result(accepted.request_id, wait_s=LIMIT_S)
    for index in (0, 1, 64, TOKENS - 1, TOKENS):
        read = Read(index)
        await read.to(elsewhere.attach(accepted.request_id, index))
        check(read, expected, index)
    with pytest.raises(InvalidRequest, match=f"completed with {TOKENS} tokens"):
        await Read(TOKENS + 1).to(elsewhere.attach(accepted.request_id, TOKENS + 1))


async def test_attach_before_it_runs(
    mesh: Processes, client: HeadraceClient, elsewhere: HeadraceClient, expected: Outcome
) -> None:
    """While no worker is there: the client gets it as soon as one is."""
    await mesh.stop("worker")
    accepted = await client.submit(model="fake", prompt=PROMPT, max_tokens=TOKENS, ignore_end=True)
    reads = [(one, index, Read(index)) for one in (client, elsewhere) for index in (0, 5)]
    attaching = asyncio.gather(
        *(read.to(one.attach(accepted.request_id, index, wait_s=LIMIT_S)) for one, index, read in reads)
    )
    await asyncio.sleep(0.5)  # so that they wait by now; where they do not, they come during the run
    assert not attaching.done()
    await mesh.start("worker")
    await attaching
    for _, index, read in reads:
        check(read, expected, index)


async def test_a_kept_request_goes_on_without_its_client(
    client: HeadraceClient, elsewhere: HeadraceClient, expected: Outcome
) -> None:
    """Its client leaves in the middle, and comes back where it was."""
    read = Read()
    events = generate(client, keep=True)
    await read.to(events, 20)
    await events.aclose()
    await asyncio.sleep(0.2)  # a cancellation would have come by now
    await read_on(read, elsewhere)
    check(read, expected)


async def read_on(read: Read, client: HeadraceClient) -> None:
    """Goes on from where it is, in another stream."""
    request_id, read.request_id = read.request_id, ""
    await read.to(client.attach(request_id, read.next_index))
    assert read.request_id == request_id


async def test_the_same_request_again_is_the_same_answer(
    mesh: Processes, client: HeadraceClient, elsewhere: HeadraceClient, expected: Outcome
) -> None:
    """While it runs and after, at either gateway, computed once; other content under its id is refused."""
    request_id = new_request_id()
    first, again = Read(), [Read() for _ in range(4)]
    events = generate(client, request_id=request_id)
    await first.to(events, 30)
    with pytest.raises(DuplicateRequest) as caught:
        await elsewhere.complete(model="fake", prompt="another", request_id=request_id)
    assert (caught.value.request_id, caught.value.field) == (request_id, "request_id")
    await asyncio.gather(
        first.to(events),
        again[0].to(generate(client, request_id=request_id)),
        again[1].to(generate(elsewhere, request_id=request_id)),
    )
    await again[2].to(generate(client, request_id=request_id))
    await again[3].to(generate(elsewhere, request_id=request_id))
    for read in (first, *again):
        check(read, expected)
    submitted = await elsewhere.submit(
        model="fake", prompt=PROMPT, max_tokens=TOKENS, ignore_end=True, request_id=request_id
    )
    assert submitted.request_id == request_id
    with pytest.raises(DuplicateRequest):
        await client.submit(model="fake", prompt="another", request_id=request_id)
    assert ended_count(mesh, request_id) == 1


async def test_of_two_clients_at_two_gateways_the_last_to_leave_ends_the_request(
    client: HeadraceClient, elsewhere: HeadraceClient
) -> None:
    """Who asked twice and hangs up once still gets the answer; when both are gone, so is the work."""
    request_id = new_request_id()
    first, second = Read(), Read()
    ones = client.generate(model="fake", prompt="x", max_tokens=3000, ignore_end=True, request_id=request_id)
    twos = elsewhere.generate(
        model="fake", prompt="x", max_tokens=3000, ignore_end=True, request_id=request_id
    )
    await first.to(ones, 5)
    await second.to(twos, 5)
    await ones.aclose()
    await second.to(twos, second.next_index + 100)  # a second's worth
    await twos.aclose()
    outcome = await client.result(request_id, wait_s=LIMIT_S)
    assert outcome.kind is OutcomeKind.CANCELLED
    assert second.next_index <= outcome.usage.output_tokens < second.next_index + 100


async def test_followers_outlive_a_router(
    mesh: Processes, client: HeadraceClient, elsewhere: HeadraceClient, expected: Outcome
) -> None:
    """Whichever router has it is killed: the other goes on with the request, for the client that asked and for the one
    that attached.
    """
    for name in ("router", "router-2"):
        asked, attached = Read(), Read(10)
        events = generate(client)
        await asked.to(events, 20)
        following = elsewhere.attach(asked.request_id, 10)
        await attached.to(following, 40)
        await mesh.kill(name)
        await asyncio.gather(asked.to(events), attached.to(following))
        check(asked, expected)
        check(attached, expected, 10)
        await mesh.start(name)
        await mesh.ready()


async def test_what_a_client_has_read_of_a_kept_request_stays_true(
    mesh: Processes, client: HeadraceClient, elsewhere: HeadraceClient
) -> None:
    """Though it has left and the router is lost: a sampled answer, which nobody draws twice, goes on from there."""
    for name in ("router", "router-2"):
        read = Read()
        events = client.generate(
            model="fake", prompt=PROMPT, max_tokens=TOKENS, ignore_end=True, temperature=0.9, keep=True
        )
        await read.to(events, 20)
        await events.aclose()
        await mesh.kill(name)
        await read_on(read, elsewhere)
        outcome = await elsewhere.result(read.request_id, wait_s=LIMIT_S)
        assert read.tokens is not None
        assert (read.tokens.token_ids, read.tokens.text) == (outcome.token_ids, outcome.text)
        assert len(outcome.token_ids) == TOKENS
        await mesh.start(name)
        await mesh.ready()
