"""Peers that make no sense: a router tells them so, and nobody else's work suffers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest

from headrace.contract.deliver import GatewayJoin, GatewayMessage
from headrace.contract.deliver_wire import encode_gateway_message
from headrace.contract.values import FinishReason, OutcomeKind, TokenChunk
from headrace.contract.work import (
    BatchEnded,
    Device,
    EntryEnd,
    EntryProgress,
    ServedModel,
    WorkerJoin,
    WorkerMessage,
)
from headrace.contract.work_wire import encode_worker_message
from tests.router.conftest import Mesh, a_request
from tests.router.peers import ScriptedWorker, gateway, worker

pytestmark = pytest.mark.integration

SANE = WorkerJoin(
    worker_id="w-9",
    name="w-9",
    version="test",
    device=Device(kind="cpu"),
    lanes=1,
    max_batch=1,
    models=(ServedModel(name="fake", version="another", compute_type="none"),),
)


async def _answer(address: str, method: str, *messages: bytes) -> grpc.aio.AioRpcError:
    """How a stream of these bytes ends."""
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.stream_stream(f"/headrace.v1.RouterService/{method}")()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(10):
                for message in messages:
                    await call.write(message)
                while await call.read() is not grpc.aio.EOF:
                    pass
        return caught.value


@pytest.mark.parametrize(
    "join",
    [
        replace(SANE, worker_id=""),
        replace(SANE, worker_id="w\n9"),
        replace(SANE, worker_id="w" * 129),
        replace(SANE, name="a name"),
        replace(SANE, name="n" * 65),
        replace(SANE, device=Device(kind="abacus")),
        replace(SANE, lanes=0),
        replace(SANE, lanes=1025),
        replace(SANE, max_batch=0),
        replace(SANE, max_batch=2**31),
        replace(SANE, models=SANE.models * 1025),
        replace(SANE, models=(ServedModel(name="a model", version="1", compute_type=""),)),
        replace(SANE, models=(ServedModel(name="fake", version="", compute_type=""),)),
    ],
    ids=lambda join: f"{join.worker_id[:3]!r}",
)
async def test_a_join_that_is_none_is_refused_with_what_it_needs(mesh: Mesh, join: WorkerJoin) -> None:
    router = await mesh.start_router("r-1")
    sent = encode_worker_message(WorkerMessage(join=join)).SerializeToString()
    error = await _answer(router.address, "Work", sent)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "WorkerMessage.join: needs worker_id and name of letters" in (error.details() or "")


async def test_bytes_that_are_no_message_end_their_stream_with_a_clear_status(mesh: Mesh) -> None:
    """First or later, from worker or gateway; and whoever said them is gone for the router."""
    router = await mesh.start_router("r-1")
    work = encode_worker_message(WorkerMessage(join=SANE)).SerializeToString()
    join = GatewayMessage(join=GatewayJoin(gateway_id="gw-9"))
    deliver = encode_gateway_message(join).SerializeToString()
    nameless = GatewayMessage(join=GatewayJoin(gateway_id="no name"))
    for method, messages in (
        ("Work", [b"\xff\xff"]),
        ("Work", [work, b"\xff\xff"]),
        ("Work", [b""]),
        ("Deliver", [b"\xff\xff"]),
        ("Deliver", [deliver, b"\xff\xff"]),
        ("Deliver", [b""]),
        ("Deliver", [encode_gateway_message(nameless).SerializeToString()]),
    ):
        error = await _answer(router.address, method, *messages)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, (method, messages, error)
    request = a_request(gateway="gw-1")
    async with gateway(router.address) as client, worker(router.address, mesh.model) as hands:
        await mesh.publish(request)
        await hands.finish(await hands.batch())
        assert (await client.outcome(request.id)).kind is OutcomeKind.COMPLETED


@asynccontextmanager
async def _two(mesh: Mesh, address: str) -> AsyncIterator[tuple[ScriptedWorker, ScriptedWorker]]:
    other = replace(mesh.model, version="another")
    async with worker(address, mesh.model) as hands, worker(address, other, worker_id="w-2") as liar:
        yield hands, liar


async def test_a_worker_cannot_speak_for_anothers_work(mesh: Mesh) -> None:
    """Tokens, ends and lanes of work that it was not given are ignored, though the numbers are right."""
    router = await mesh.start_router("r-1")
    request = a_request(gateway="gw-1")
    async with gateway(router.address) as client, _two(mesh, router.address) as (hands, liar):
        await mesh.publish(request)
        batch = await hands.batch()
        (entry,) = batch.entries
        lies = TokenChunk(first_index=0, token_ids=(1,), text="lie")
        await liar.send(
            EntryProgress(
                assignment=entry.assignment, tokens=lies, end=EntryEnd(finish_reason=FinishReason.END)
            ),
            ended=(BatchEnded(batch=batch.batch, lane=batch.lane),),
        )
        await hands.make(entry, "truth")
        await hands.finish(batch)
        outcome = await client.outcome(request.id)
        assert (client.text[request.id], outcome.kind) == ("truth", OutcomeKind.COMPLETED)
        assert outcome.usage.attempts == 1


@pytest.mark.parametrize("vectors", [(b"123",), (b"",), (b"1234", b"12345678"), (b"1234",)], ids=repr)
async def test_vectors_that_are_none_or_that_nobody_asked_for_cost_the_attempt(
    mesh: Mesh, vectors: tuple[bytes, ...]
) -> None:
    """They are in no outcome: the request has the next attempt, and its answer."""
    router = await mesh.start_router("r-1")
    request = a_request(gateway="gw-1")
    async with gateway(router.address) as client, worker(router.address, mesh.model) as hands:
        await mesh.publish(request)
        batch = await hands.batch()
        done = EntryEnd(finish_reason=FinishReason.END)
        await hands.send(
            EntryProgress(assignment=batch.entries[0].assignment, vectors=vectors, end=done),
            ended=(BatchEnded(batch=batch.batch, lane=batch.lane),),
        )
        again = await hands.batch()
        await hands.make(again.entries[0], "truth")
        await hands.finish(again)
        outcome = await client.outcome(request.id)
        assert (outcome.kind, outcome.vectors, outcome.usage.attempts) == (OutcomeKind.COMPLETED, (), 2)


@pytest.mark.parametrize("end", [EntryEnd(), EntryEnd(cancelled=True)], ids=["without a reason", "cancelled"])
async def test_a_worker_that_gives_back_whatever_it_gets_is_given_it_so_many_times(
    mesh: Mesh, end: EntryEnd
) -> None:
    """Not for ever: each is a lost attempt."""
    router = await mesh.start_router("r-1")
    request = a_request(gateway="gw-1")
    async with gateway(router.address) as client, worker(router.address, mesh.model) as hands:
        await mesh.publish(request)
        for _ in range(5):
            batch = await hands.batch()
            progress = [EntryProgress(assignment=entry.assignment, end=end) for entry in batch.entries]
            await hands.send(*progress, ended=(BatchEnded(batch=batch.batch, lane=batch.lane),))
        outcome = await client.outcome(request.id)
        assert (outcome.kind, outcome.usage.attempts) == (OutcomeKind.FAILED, 5)


async def test_a_lane_that_a_leaving_worker_frees_gets_nothing(mesh: Mesh) -> None:
    """Though the word that it leaves and the end of its batch come in one message."""
    router = await mesh.start_router("r-1")
    first, second = a_request(gateway="gw-1"), a_request(gateway="gw-1")
    async with (
        gateway(router.address) as client,
        worker(router.address, mesh.model, max_batch=1) as leaves,
    ):
        await mesh.publish(first)
        batch = await leaves.batch()
        await mesh.publish(second)
        end = EntryEnd(finish_reason=FinishReason.END)
        await leaves.send(
            EntryProgress(assignment=batch.entries[0].assignment, end=end),
            ended=(BatchEnded(batch=batch.batch, lane=batch.lane),),
            draining=True,
        )
        await client.outcome(first.id)
        async with worker(router.address, mesh.model, worker_id="w-2") as stays:
            again = await stays.batch()
            assert again.entries[0].request_id == second.id
            assert again.entries[0].attempt == 1, "it was not given to the one that left"
            await stays.finish(again)
            await client.outcome(second.id)
