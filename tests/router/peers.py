"""What plays the router's peers in its tests: a worker and a gateway that do what the test says, over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from headrace.contract.deliver import Delivery, DeliveryMessage, GatewayJoin, GatewayMessage, HeldStream
from headrace.contract.deliver_wire import decode_delivery_message, encode_gateway_message
from headrace.contract.values import FinishReason, Outcome, TokenChunk
from headrace.contract.work import (
    BatchEnded,
    BatchEntry,
    Device,
    EntryEnd,
    EntryProgress,
    Peer,
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
        self._writing = asyncio.Lock()
        """A stream takes one message at a time, and heartbeats are written beside what the test sends."""
        self.peers: tuple[Peer, ...] = ()
        """The routers that it was told of last."""

    async def send(
        self, *progress: EntryProgress, ended: tuple[BatchEnded, ...] = (), draining: bool = False
    ) -> None:
        message = WorkerMessage(progress=progress, ended=ended, draining=draining)
        async with self._writing:
            await self._stream.write(encode_worker_message(message))

    async def receive(self) -> RouterMessage:
        async with asyncio.timeout(10):
            message = decode_router_message(await self._stream.read())
        if message.peers is not None:
            self.peers = message.peers
        return message

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
        ids, lengths = tuple(map(ord, text)), (1,) * len(text)
        chunk = TokenChunk(first_index=index, token_ids=ids, text=text, text_lengths=lengths)
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
    """A gateway that keeps what it was delivered, by request, and answers a router's recall with it.

    As a real one does, it takes the tokens of a request from one router: the first that delivers, or the last that
    recalled it.
    """

    def __init__(self, gateway_id: str, held: tuple[HeldStream, ...]) -> None:
        self._gateway_id = gateway_id
        self._news = asyncio.Condition()
        self._messages: asyncio.Queue[DeliveryMessage] = asyncio.Queue()
        self._owners: dict[str, str] = {}
        self._tenants: dict[str, str] = {}
        self.text: dict[str, str] = {had.request_id: had.text for had in held}
        self.tokens: dict[str, list[int]] = {had.request_id: list(had.token_ids) for had in held}
        self.first: dict[str, int] = {had.request_id: had.first_index for had in held}
        self.models: dict[str, str] = {}
        """The version that makes the tokens of a request, where its router told."""
        self.outcomes: dict[str, Outcome] = {}
        self.recalled: list[str] = []
        """Requests that were asked for."""
        self.fenced = 0
        """Tokens that came from a router that has the request no more."""
        self.left: set[str] = set()
        """Requests that nobody waits for here."""
        self.answers = True
        """Whether it answers recalls."""
        self.streams: list[GatewayStream] = []

    @asynccontextmanager
    async def join(self, address: str, held: tuple[HeldStream, ...] = ()) -> AsyncIterator[GatewayStream]:
        """A stream to one more router."""
        async with grpc.aio.insecure_channel(address) as channel:
            stream = GatewayStream(RouterServiceStub(channel).Deliver())
            await stream.tell(join=GatewayJoin(gateway_id=self._gateway_id, held=held))
            welcome = await stream.receive()
            assert welcome.welcome, "a join is answered with the router's id"
            self.streams.append(stream)
            reader = asyncio.ensure_future(self._read(stream, welcome.welcome))
            try:
                yield stream
            finally:
                reader.cancel()
                stream.end()

    async def _read(self, stream: GatewayStream, router_id: str) -> None:
        try:
            while True:
                message = await stream.receive()
                for delivery in message.deliveries:
                    self._take(router_id, delivery)
                for recall in message.recall:
                    await self._answer(stream, router_id, recall.request_id, recall.tenant)
                self._messages.put_nowait(message)
                async with self._news:
                    self._news.notify_all()
        except grpc.aio.AioRpcError:
            pass  # the router is gone

    async def _answer(self, stream: GatewayStream, router_id: str, request_id: str, tenant: str) -> None:
        self.recalled.append(request_id)
        self._owners[request_id] = router_id
        if not self.answers:
            return
        if request_id in self.left:
            await stream.tell(left=(request_id,))
            return
        held = HeldStream(
            request_id=request_id,
            tenant=tenant,
            first_index=self.first.get(request_id, 0),
            token_ids=tuple(self.tokens.get(request_id, ())),
            text=self.text.get(request_id, ""),
            text_lengths=(1,) * len(self.text.get(request_id, "")),
            model=self.models.get(request_id, ""),
        )
        await stream.tell(join=GatewayJoin(gateway_id=self._gateway_id, held=(held,)))

    def _take(self, router_id: str, delivery: Delivery) -> None:
        key = delivery.request_id
        if delivery.tokens is not None:
            if self._owners.setdefault(key, router_id) != router_id:
                self.fenced += len(delivery.tokens.token_ids)
            else:
                had = self.tokens.setdefault(key, [])
                expected = self.first.get(key, 0) + len(had)
                assert delivery.tokens.first_index == expected, "no gap and no repeat"
                had.extend(delivery.tokens.token_ids)
                self.models[key] = delivery.model or self.models.get(key, "")
                self.text[key] = self.text.get(key, "") + delivery.tokens.text
        if delivery.finished is not None:
            assert key not in self.outcomes, "one end per request"
            self.outcomes[key] = delivery.finished

    async def receive(self) -> DeliveryMessage:
        """The next message; what was in it is kept already."""
        async with asyncio.timeout(10):
            return await self._messages.get()

    async def outcome(self, request_id: str) -> Outcome:
        await self._until(lambda: request_id in self.outcomes)
        return self.outcomes[request_id]

    async def until_text(self, request_id: str, text: str) -> None:
        await self._until(lambda: self.text.get(request_id, "") == text)

    async def until_recalled(self, request_id: str) -> None:
        await self._until(lambda: request_id in self.recalled)

    async def _until(self, come: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(come)


class GatewayStream:
    """One gateway's stream to one router."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._writing = asyncio.Lock()

    async def tell(self, join: GatewayJoin | None = None, left: tuple[str, ...] = ()) -> None:
        async with self._writing:
            await self._stream.write(encode_gateway_message(GatewayMessage(join=join, left=left)))

    async def receive(self) -> DeliveryMessage:
        message = await self._stream.read()
        if message is grpc.aio.EOF:
            await asyncio.Event().wait()  # the router ended it; nothing comes any more
        return decode_delivery_message(message)

    def end(self) -> None:
        self._stream.cancel()


@asynccontextmanager
async def gateway(
    address: str, gateway_id: str = "gw-1", held: tuple[HeldStream, ...] = ()
) -> AsyncIterator[ScriptedGateway]:
    """A gateway that has joined the router at `address`."""
    scripted = ScriptedGateway(gateway_id, held)
    async with scripted.join(address, held):
        yield scripted
