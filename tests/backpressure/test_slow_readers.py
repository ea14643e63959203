"""Whoever does not read what it asked for hurts nobody else: a gRPC client, a client's process, a NATS consumer."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc.aio
import nats
import pytest

from headrace.client.client import HeadraceClient
from headrace.contract.client_wire import decode_generate_response
from headrace.contract.errors import HeadraceError, Overloaded
from headrace.contract.ids import new_request_id
from headrace.contract.subjects import result_subject
from headrace.contract.values import OutcomeKind
from headrace.v1 import inference_pb2
from headrace.v1.inference_pb2_grpc import InferenceServiceStub
from tests.backpressure.conftest import MakeMesh
from tests.backpressure.streaming import PATIENCE_S, Read, stream
from tests.hostile.mesh import Mesh
from tests.hostile.raw_nats import RawNats

pytestmark = pytest.mark.integration

LONG = 10_000
"""Tokens of an answer that fills every buffer on its way, where nobody reads it."""
UNREAD = 12
MIB = 2**20

SMALL_WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 4096))
"""A client whose gRPC takes little more than what is read, as over a slow network."""

PLACES = UNREAD + 1
SETTINGS = {
    "HEADRACE_WORKER_LANES": "2",
    "HEADRACE_WORKER_MAX_BATCH": "8",
    "HEADRACE_GATEWAY_MAX_CONCURRENT_STREAMS": str(PLACES),
}


@asynccontextmanager
async def _unread(address: str, count: int) -> AsyncIterator[list[tuple[str, Any]]]:
    """Calls of one client that reads the acceptance of each and nothing more: id and call."""
    async with grpc.aio.insecure_channel(
        address, options=(*SMALL_WINDOW, ("grpc.use_local_subchannel_pool", 1))
    ) as channel:
        calls = []
        for _ in range(count):
            request = inference_pb2.GenerateRequest(
                request_id=new_request_id(), model="fake", prompt="count", max_tokens=LONG
            )
            request.sampling.ignore_end = True
            call: Any = InferenceServiceStub(channel).Generate(request)
            async with asyncio.timeout(PATIENCE_S):
                assert (await call.read()).accepted.request_id == request.request_id
            calls.append((request.request_id, call))
        yield calls


async def test_clients_that_stop_reading_hurt_nobody_and_cost_little(make_mesh: MakeMesh) -> None:
    """Their answers are made all the same, and joined while they wait; others' streams keep their pace; what was kept
    for them is there when one reads on, and goes when the others do.
    """
    async with AsyncExitStack() as stack:
        # An answer takes three seconds: long enough to look at others meanwhile, and far from the bound on
        # their waiting, as they may come when each lane has just begun a batch.
        mesh = await stack.enter_async_context(make_mesh(step_s=0.0003, environment=SETTINGS))
        client = await stack.enter_async_context(HeadraceClient(mesh.address("gateway-1")))
        quiet = await stream(client, 300)
        before = {name: mesh.memory_mib(name) for name in ("gateway-1", "router-1", "worker-1")}
        async with _unread(mesh.address("gateway-1"), UNREAD) as calls:
            while not all([await _is_over(client, request_id) for request_id, _ in calls]):
                other = await stream(client, 300)
                assert other.text == quiet.text
                assert other.chunks > 5, "it was streamed, not kept back"
                assert other.longest_stall_s < 10
            both = await asyncio.gather(stream(client, 2_000), stream(client, 2_000), return_exceptions=True)
            refused = [one for one in both if isinstance(one, Overloaded)]
            assert len(refused) == 1, "their places are taken, though their answers are complete"
            grown = {name: mesh.memory_mib(name) - size for name, size in before.items()}
            assert all(more < 48 for more in grown.values()), grown
            read, messages = await _read_on(calls[0][1])
            assert read.outcome is not None
            assert len(read.token_ids) == LONG
            assert messages < LONG / 2, "what had waited came together"
        await _all_places_are_free(client)


async def _all_places_are_free(client: HeadraceClient) -> None:
    """Returns when as many streams as the gateway takes run side by side."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            ended = await asyncio.gather(*(stream(client, 50) for _ in range(PLACES)), return_exceptions=True)
            if all(isinstance(one, Read) for one in ended):
                return
            assert all(isinstance(one, Read | Overloaded) for one in ended), ended


async def _is_over(client: HeadraceClient, request_id: str) -> bool:
    try:
        outcome = await client.result(request_id)
    except HeadraceError:
        return False
    assert (outcome.kind, outcome.usage.output_tokens) == (OutcomeKind.COMPLETED, LONG)
    return True


async def _read_on(call: Any) -> tuple[Read, int]:
    read, messages = Read(), 0
    async with asyncio.timeout(PATIENCE_S):
        while (response := await call.read()) is not grpc.aio.EOF:
            messages += 1
            read.take(decode_generate_response(response))
    return read, messages


async def test_a_client_process_that_is_stopped_counts_as_gone(make_mesh: MakeMesh) -> None:
    """After the silence that the settings allow its request is cancelled; nobody has to wait for it."""
    async with AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(make_mesh(step_s=0.01))
        client = await stack.enter_async_context(HeadraceClient(mesh.address("gateway-1")))
        asking = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headrace.cli", "generate", "count", "--model", "fake", "--json"),
            *("--max-tokens", str(LONG), "--address", mesh.address("gateway-1")),
            stdout=asyncio.subprocess.PIPE,
        )
        stack.push_async_callback(_killed, asking)
        assert asking.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            accepted, _ = json.loads(await asking.stdout.readline()), await asking.stdout.readline()
        asking.send_signal(signal.SIGSTOP)
        outcome = await client.result(accepted["request_id"], wait_s=25)
        assert outcome.kind is OutcomeKind.CANCELLED
        await stream(client, 20)


async def _killed(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def _stalled_consumer(mesh: Mesh, subject: str) -> socket.socket:
    """A NATS client that subscribes, and then never reads again."""
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await asyncio.to_thread(stalled.connect, ("127.0.0.1", mesh.ports["nats"]))
    stalled.sendall(b'CONNECT {"verbose":false,"headers":true}\r\n' + f"SUB {subject} 1\r\nPING\r\n".encode())
    told = b""
    while b"PONG" not in told:
        told += await asyncio.to_thread(stalled.recv, 4096)
    return stalled


async def test_a_nats_consumer_that_stops_reading_is_cut_off_by_the_server_alone(make_mesh: MakeMesh) -> None:
    """The router publishes on, others get theirs meanwhile, and the outcome is durable."""
    async with AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(make_mesh(step_s=0.005))
        client = await stack.enter_async_context(HeadraceClient(mesh.address("gateway-1")))
        nc = await nats.connect(mesh.nats_url)
        stack.push_async_callback(nc.close)
        flood = await stack.enter_async_context(RawNats(mesh.nats_url))
        subject, request_id = "_INBOX.stalled.tokens", new_request_id()
        stalled = await _stalled_consumer(mesh, subject)
        stack.callback(stalled.close)
        ask = {"id": request_id, "prompt": "count", "max_tokens": 600, "sampling": {"ignore_end": True}}
        await nc.jetstream().publish(
            "hr.v1.req.fake.normal.default", json.dumps({**ask, "reply_to": subject}).encode()
        )
        other = asyncio.create_task(stream(client, 400))
        while not _is_cut(stalled):
            flood.publish(
                subject.encode(), bytes(4 * MIB)
            )  # what fills the server's buffer sooner than tokens
            await flood.flush()
        assert (await other).longest_stall_s < 10
        outcome = await client.result(request_id, wait_s=25)
        assert (outcome.kind, outcome.usage.output_tokens) == (OutcomeKind.COMPLETED, 600)
        stored = await nc.jetstream().get_last_msg("HEADRACE_RESULTS", result_subject("default", request_id))
        assert len(json.loads(stored.data or b"")["token_ids"]) == 600
        assert "is lost" not in mesh.log("router-1"), "the router's connection was never cut"


def _is_cut(stalled: socket.socket) -> bool:
    """Whether the server has closed the connection: an empty line, which it would not mind, is refused."""
    time.sleep(0.01)
    try:
        stalled.sendall(b"PING\r\n")
    except OSError:
        return True
    return False
