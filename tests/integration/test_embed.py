"""Requests to embed where workers die, clients leave, deadlines pass and messages are small: one mesh of processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client

from headrace.client.admin import AdminClient
from headrace.client.client import HeadraceClient
from headrace.contract.admin import MemberKind
from headrace.contract.errors import Overloaded, TooManyAttempts
from headrace.contract.ids import new_request_id
from headrace.contract.queue_wire import decode_request
from headrace.contract.subjects import CONTENT_TYPE_PROTOBUF as PROTOBUF
from headrace.contract.subjects import RESULTS_STREAM, parse_queue, result_subject
from headrace.contract.values import Outcome, OutcomeKind
from headrace.dead.letters import DeadLetters
from headrace.dead.replay import replay
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from headrace.worker.fake_engine import FAIL_AT_ONCE
from tests.integration.processes import Processes
from tests.integration.test_oversize import objects

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

LIMIT_S = 30.0
MODEL, SLOW = "fake-embed", "slow-embed"
LONG = ["x" * 40] * 40
LONG_S = 6.4
"""What the slow one takes for them."""
SHORT = ["x" * 40] * 10
FAILS = chr(FAIL_AT_ONCE)
"""What the engine fails with."""
SMALL_MESSAGE = 64 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Processes]:
    """A worker of one lane, with a quick and a slow model, behind a broker that takes small messages only."""
    folder: Path = tmp_path_factory.mktemp("mesh")
    store = ModelStore(folder / "models")
    install_fake_model(store, MODEL, task="embed")
    install_fake_model(store, SLOW, task="embed", timing=FakeTiming(prefill_s_per_token=0.004))
    environment = {
        "HEADRACE_WORKER_LANES": "1",
        "HEADRACE_WORKER_SPARE_LANES": "1",
        "HEADRACE_WORKER_PIECE_TOKENS": "200",
        "HEADRACE_WORKER_REJOIN_WAIT_S": "0.05",
    }
    async with Processes(
        folder, models=store.root, environment=environment, max_payload_bytes=SMALL_MESSAGE
    ) as running:
        yield running


async def lanes_busy(mesh: Processes, count: int) -> None:
    """Returns when so many lanes of the worker have a batch."""
    async with asyncio.timeout(LIMIT_S), AdminClient(mesh.address) as admin:
        while True:
            workers = [member for member in await admin.members() if member.kind is MemberKind.WORKER]
            if sum(member.busy_lanes for member in workers) == count and workers:
                return
            await asyncio.sleep(0.02)  # nothing tells an operator of a change


async def test_a_result_too_large_for_a_message_comes_whole(mesh: Processes) -> None:
    """By reference where messages are small; the client does not notice, and fetches the same later."""
    texts = [f"text {number}" for number in range(256)]
    async with HeadraceClient(mesh.address) as client:
        outcome = await client.embed(texts, model=MODEL, timeout_s=LIMIT_S)
        assert len(outcome.vectors) == len(texts)
        assert sum(map(len, outcome.vectors)) >= SMALL_MESSAGE
        assert any(outcome.request_id in name for name in await objects(mesh))
        assert (await client.result(outcome.request_id)).vectors == outcome.vectors
        (alone,) = (await client.embed(texts[7:8], model=MODEL, timeout_s=LIMIT_S)).vectors
        assert alone == outcome.vectors[7]


async def test_a_client_that_leaves_ends_the_work_within_a_piece(mesh: Processes) -> None:
    """Its outcome is `cancelled`, and the lane is free long before the work would have been done."""
    async with HeadraceClient(mesh.address) as client:
        request_id = new_request_id()
        asking = asyncio.ensure_future(client.embed(LONG, model=SLOW, request_id=request_id))
        await lanes_busy(mesh, 1)
        asking.cancel()
        outcome = await client.result(request_id, wait_s=LIMIT_S)
        assert outcome.kind is OutcomeKind.CANCELLED
        await lanes_busy(mesh, 0)


async def test_vectors_that_cannot_come_in_time_are_refused_at_once(mesh: Processes) -> None:
    """By what the texts cost, with the time to try again, and without a computation."""
    async with HeadraceClient(mesh.address) as client:
        request_id = new_request_id()
        with pytest.raises(Overloaded):
            await client.embed(LONG, model=SLOW, request_id=request_id, timeout_s=LONG_S / 2)
        outcome = await client.result(request_id, wait_s=LIMIT_S)
        assert (outcome.kind, outcome.usage.attempts) == (OutcomeKind.REJECTED, 0)


async def test_a_worker_that_dies_costs_an_attempt_and_nothing_else(mesh: Processes) -> None:
    """Killed in the midst of it: another one begins anew, and there is one outcome, with all vectors."""
    async with HeadraceClient(mesh.address) as client:
        asking = asyncio.ensure_future(client.embed(SHORT, model=SLOW))
        await lanes_busy(mesh, 1)
        await mesh.kill("worker")
        await mesh.start("worker")
        async with asyncio.timeout(LIMIT_S):
            outcome = await asking
        assert (outcome.kind, outcome.usage.attempts) == (OutcomeKind.COMPLETED, 2)
        assert len(outcome.vectors) == len(SHORT)
        assert len(await stored(mesh, outcome.request_id)) == 1


async def test_texts_that_no_worker_can_embed_become_a_dead_letter(mesh: Processes) -> None:
    """After every attempt, with what was asked; what came with them is answered, and a replay is a new request."""
    async with HeadraceClient(mesh.address) as client, connected(mesh) as connection:
        bad, good = new_request_id(), new_request_id()
        answers = await asyncio.gather(
            client.embed([FAILS], model=MODEL, request_id=bad, timeout_s=LIMIT_S),
            client.embed(SHORT, model=MODEL, request_id=good, timeout_s=LIMIT_S),
            return_exceptions=True,
        )
        assert isinstance(answers[0], TooManyAttempts)
        assert isinstance(answers[1], Outcome)
        letters = await DeadLetters.open(connection)
        found = [letter async for page in letters.newest_first() for letter in page]
        (letter,) = [letter for letter in found if letter.dead.request_id == bad]
        assert letter.dead.attempts == 5
        assert decode_request(letter.dead.body, PROTOBUF, parse_queue(letter.dead.subject)).texts == (FAILS,)
        again = await replay(letters, letter, without_deadline=True)
        outcome = await client.result(again.new_request_id, wait_s=LIMIT_S)
        assert (outcome.kind, outcome.vectors) == (OutcomeKind.FAILED, ())


@asynccontextmanager
async def connected(mesh: Processes) -> AsyncIterator[Client]:
    """A connection to the mesh's broker."""
    connection = await nats.connect(mesh.nats_url)
    try:
        yield connection
    finally:
        await connection.close()


async def stored(mesh: Processes, request_id: str) -> list[int]:
    """The places of its outcomes in the stream of results."""
    async with connected(mesh) as connection:
        subject = result_subject("default", request_id)
        info = await connection.jetstream().stream_info(RESULTS_STREAM, subjects_filter=subject)
        counts = info.state.subjects or {}
        return [count for count in counts.values() for _ in range(count)]
