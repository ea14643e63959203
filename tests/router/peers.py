"""What plays the router's peers in its tests: a worker and a gateway that do what the test says, over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from headrace.contract.deliver import DeliveryMessage, GatewayJoin, GatewayMessage, HeldStream
from headrace.contract.deliver_wire import decode_delivery_message, encode_gateway_message
from headrace.contract.values import FinishReason, Outcome, TokenChunk
from headrace.contract.work import (
    BatchEnded,
    BatchEntry,
    Device,
    EntryEnd,
    EntryProgress,
    RouterMessage,
    ServedModel,
    StartBatch,
    WorkerJoin,
    WorkerMessage,
)
from headrace.contract.work_wire import decode_router_message, encode_worker_message
from headrace.v1.router_pb2_grpc import RouterServiceStub


class ScriptedWorker:
    """A worker whose every frame the test sends."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._writing = asyncio.Lock()  # a stream takes one write at a time, and the heartbeat writes too

    async def send(
        self, *progress: EntryProgress, ended: tuple[BatchEnded, ...] = (), draining: bool = False
    ) -> None:
        message = WorkerMessage(progress=progress, ended=ended, draining=draining)
        async with self._writing:
            await self._stream.write(encode_worker_message(message))

    async def receive(self) -> RouterMessage:
        async with asyncio.timeout(10):
            return decode_router_message(await self._stream.read())

    async def batch(self) -> StartBatch:
        """The next batch that the router starts."""
        while True:
            message = await self.receive()
            if message.start:
                assert len(message.start) == 1, "one batch at a time in these tests"
                return message.start[0]

    async def cancelled(self) -> int:
        """The next assignment that the router stops."""
        while True:
            message = await self.receive()
            if message.cancel:
                return message.cancel[0]

    async def make(self, entry: BatchEntry, text: str, *, at: int | None = None) -> None:
        """Makes one token per character of `text`, after what the entry has already."""
        index = len(entry.generated) if at is None else at
        chunk = TokenChunk(first_index=index, token_ids=tuple(map(ord, text)), text=text)
        await self.send(EntryProgress(assignment=entry.assignment, tokens=chunk))

    async def finish(self, batch: StartBatch, reason: FinishReason = FinishReason.END) -> None:
        """Ends all entries of a batch, and the batch."""
        ends = [
            EntryProgress(assignment=entry.assignment, end=EntryEnd(finish_reason=reason))
            for entry in batch.entries
        ]
        await self.send(*ends, ended=(BatchEnded(batch=batch.batch, lane=batch.lane),))

    def kill(self) -> None:
        self._stream.cancel()


@asynccontextmanager
async def worker(
    address: str,
    model: ServedModel,
    *,
    lanes: int = 1,
    max_batch: int = 4,
    worker_id: str = "w-1",
    heartbeat_s: float | None = None,
) -> AsyncIterator[ScriptedWorker]:
    """A worker that has joined the router at `address`."""
    async with grpc.aio.insecure_channel(address) as channel:
        stream = RouterServiceStub(channel).Work()
        join = WorkerJoin(
            worker_id=worker_id,
            name=worker_id,
            version="test",
            device=Device(kind="cpu"),
            lanes=lanes,
            max_batch=max_batch,
            models=(model,),
        )
        await stream.write(encode_worker_message(WorkerMessage(join=join)))
        scripted = ScriptedWorker(stream)
        welcome = await scripted.receive()
        assert welcome.welcome, "a join is answered with the router's id"
        beating = asyncio.ensure_future(_beat(scripted, heartbeat_s or 0.0))
        try:
            yield scripted
        finally:
            beating.cancel()
            stream.cancel()


async def _beat(worker: ScriptedWorker, every_s: float) -> None:
    """Says nothing, now and then, as real workers do; never, where `every_s` is 0."""
    while every_s:
        await worker.send()
        await asyncio.sleep(every_s)


class ScriptedGateway:
    """A gateway that keeps what it was delivered, by request."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.text: dict[str, str] = {}
        self.tokens: dict[str, list[int]] = {}
        self.outcomes: dict[str, Outcome] = {}

    async def receive(self) -> DeliveryMessage:
        async with asyncio.timeout(10):
            message = decode_delivery_message(await self._stream.read())
        for delivery in message.deliveries:
            key = delivery.request_id
            if delivery.tokens is not None:
                had = self.tokens.setdefault(key, [])
                assert delivery.tokens.first_index == len(had), "no gap and no repeat"
                had.extend(delivery.tokens.token_ids)
                self.text[key] = self.text.get(key, "") + delivery.tokens.text
            if delivery.finished is not None:
                assert key not in self.outcomes, "one end per request"
                self.outcomes[key] = delivery.finished
        return message

    async def outcome(self, request_id: str) -> Outcome:
        while request_id not in self.outcomes:
            await self.receive()
        return self.outcomes[request_id]

    async def until_text(self, request_id: str, text: str) -> None:
        while self.text.get(request_id, "") != text:
            await self.receive()


@asynccontextmanager
async def gateway(
    address: str, gateway_id: str = "gw-1", held: tuple[HeldStream, ...] = ()
) -> AsyncIterator[ScriptedGateway]:
    """A gateway that has joined the router at `address`."""
    async with grpc.aio.insecure_channel(address) as channel:
        stream = RouterServiceStub(channel).Deliver()
        await stream.write(
            encode_gateway_message(GatewayMessage(join=GatewayJoin(gateway_id=gateway_id, held=held)))
        )
        scripted = ScriptedGateway(stream)
        for had in held:
            scripted.tokens[had.request_id] = list(had.token_ids)
            scripted.text[had.request_id] = had.text
        welcome = await scripted.receive()
        assert welcome.welcome, "a join is answered with the router's id"
        try:
            yield scripted
        finally:
            stream.cancel()
