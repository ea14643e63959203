"""Throws items at a mesh, and keeps what came of each."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, assert_never

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from headrace.v1 import inference_pb2 as pb
from tests.hostile.items import Called, Item, Queued, Said, Sent
from tests.hostile.mesh import NATS, Mesh
from tests.hostile.plan import item, kind_of
from tests.hostile.raw_nats import RawNats

AT_ONCE = 48
"""Items under way at a time."""
ANSWER_S = 30.0
"""A call that has no status so long after its deadline never gets one."""
CHANNELS = 4


@dataclass(slots=True)
class Happened:
    """All that came of the items so far."""

    sent: Counter[str] = field(default_factory=Counter)
    """By kind."""
    statuses: Counter[str] = field(default_factory=Counter)
    stored: dict[int, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    """By place in the requests stream: the item's number, and the ids under which it may be answered."""
    refused: int = 0
    """Queue messages that the broker did not take, or knew already."""
    accepted: dict[str, int] = field(default_factory=dict)
    """Request ids that a gateway accepted, with the item's number."""
    faults: list[str] = field(default_factory=list)
    """What must not have come of them."""


class Sender:
    """Throws the items of one seed. An async context manager. Writer of `happened`."""

    def __init__(self, mesh: Mesh, seed: int) -> None:
        self._mesh = mesh
        self._seed = seed
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self.happened = Happened()

    async def __aenter__(self) -> Sender:
        self._stack = AsyncExitStack()
        self._nats = await self._stack.enter_async_context(RawNats(self._mesh.nats_url))
        self._channels = {
            target: [
                await self._stack.enter_async_context(
                    grpc.aio.insecure_channel(
                        self._mesh.address(name),
                        options=(("grpc.use_local_subchannel_pool", 1), ("grpc.max_metadata_size", 65536)),
                    )
                )
                for _ in range(CHANNELS)
            ]
            for target, name in (("gateway", self._mesh.gateways[0]), ("router", self._mesh.routers[0]))
        }
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await self._stack.aclose()

    async def throw(self, number: int) -> None:
        """Throws an item, as soon as there is room for one more under way."""
        await self._slots.acquire()
        task = asyncio.create_task(self._throw(number), name=f"item {number}")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.happened.faults.append(f"{task.get_name()}: {type(error).__name__}: {error}")

    async def drained(self) -> None:
        """Returns when all that was thrown has come to something."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._nats.flush()

    async def _throw(self, number: int) -> None:
        thrown: Item = item(self._seed, number)
        self.happened.sent[kind_of(thrown)] += 1
        match thrown:
            case Queued():
                await self._queue(number, thrown)
            case Said():
                self._nats.publish(thrown.subject, thrown.body, thrown.block)
            case Called():
                await self._call(number, thrown)
            case Sent():
                await self._send(thrown)
            case _:
                assert_never(thrown)

    async def _queue(self, number: int, message: Queued) -> None:
        answer = self._nats.store(message.subject, message.body, message.block)
        async with asyncio.timeout(ANSWER_S):
            stored = await answer
        if stored.sequence is None or stored.duplicate:
            self.happened.refused += 1
        else:
            self.happened.stored[stored.sequence] = (number, message.ids)

    async def _send(self, thrown: Sent) -> None:
        name = {"gateway": self._mesh.gateways[0], "router": self._mesh.routers[0], "nats": NATS}[
            thrown.target
        ]
        reader, writer = await asyncio.open_connection("127.0.0.1", self._mesh.ports[name])
        with suppress(OSError, TimeoutError):
            writer.write(thrown.raw)
            await writer.drain()
            if thrown.half_closes:
                writer.write_eof()
            async with asyncio.timeout(0.2):
                while await reader.read(4096):
                    pass
        writer.transport.abort()

    async def _call(self, number: int, called: Called) -> None:
        channel = self._channels[called.target][number % CHANNELS]
        call = _open(channel, called)
        try:
            async with asyncio.timeout(
                called.timeout_s + ANSWER_S if called.leaves_s is None else called.leaves_s
            ):
                status = await self._answered(number, called, call)
        except TimeoutError:
            call.cancel()
            if called.leaves_s is None:
                self.happened.faults.append(f"item {number}: {called.path} was never answered")
            status = "(left)"
        self.happened.statuses[status] += 1

    async def _answered(self, number: int, called: Called, call: Any) -> str:
        try:
            if called.streams[0]:
                for message in called.messages:
                    await call.write(message)
                if called.leaves_s is None:
                    await call.done_writing()
            if called.streams[1]:
                async for response in call:
                    self._note(number, called, response)
            else:
                self._note(number, called, await call)
        except grpc.aio.AioRpcError as error:
            self._check(number, called, error)
            return error.code().name
        except (asyncio.InvalidStateError, grpc.aio.UsageError, grpc.aio.InternalError):
            pass  # written to a call that has ended: its status says how
        code = await call.code()
        if code is not grpc.StatusCode.OK:
            self._check(number, called, grpc.aio.AioRpcError(code, None, None, await call.details()))
        return str(code.name)

    def _note(self, number: int, called: Called, response: bytes) -> None:
        """Remembers an acceptance: it is a promise, whatever becomes of the call."""
        kinds: dict[str, Any] = {"Generate": pb.GenerateResponse, "Submit": pb.SubmitResponse}
        kind = kinds.get(called.path.rpartition("/")[2])
        if kind is None or called.target != "gateway":
            return
        with suppress(DecodeError):
            told = kind.FromString(response)
            if told.accepted.request_id:
                self.happened.accepted[told.accepted.request_id] = number

    def _check(self, number: int, called: Called, error: grpc.aio.AioRpcError) -> None:
        """A status that says nothing, or one that says what only a programmer may know, is a fault."""
        text = error.details() or ""
        unclear = error.code() in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
        if (unclear and not _is_transports(text)) or "Traceback" in text or "Exception" in text:
            self.happened.faults.append(f"item {number}: {called.path}: {error.code().name}: {text[:200]}")


def _is_transports(text: str) -> bool:
    """Whether the caller's own gRPC says it: of a call of another kind than the method, or a write to an ended call."""
    known = ("RST_STREAM", "Cardinality violation", "Internal error from Core")
    return any(word in text for word in known)


def _open(channel: grpc.aio.Channel, called: Called) -> Any:
    make: Any = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }[called.streams]
    arguments = () if called.streams[0] else (called.messages[0],)
    return make(called.path)(*arguments, metadata=called.metadata, timeout=called.timeout_s)
