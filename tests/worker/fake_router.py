"""A router for tests: takes in workers, sends what the test says, keeps what it hears and checks that it is in
order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from headrace.contract.work import EntryEnd, Peer, RouterMessage, StartBatch, WorkerJoin, WorkerMessage
from headrace.contract.work_wire import decode_worker_message, encode_router_message
from headrace.v1.router_pb2_grpc import RouterServiceServicer, add_RouterServiceServicer_to_server


@dataclass
class Heard:
    """What one assignment made, as a router hears it."""

    first_index: int = 0
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    end: EntryEnd | None = None


class Stream:
    """One worker's open stream, as the router sees it."""

    def __init__(self, join: WorkerJoin, router_id: str = "test-router") -> None:
        self.join = join
        self._router_id = router_id
        self.heard: dict[int, Heard] = {}
        self.ended: dict[int, int] = {}  # batch → lane
        self.freed: list[int] = []  # lanes
        self.draining = False
        self.closed = False  # by the worker
        self.messages = 0
        self.changed = asyncio.Condition()
        self._out: asyncio.Queue[RouterMessage | None] = asyncio.Queue()

    def send(self, **message: Any) -> None:
        self._out.put_nowait(RouterMessage(**message))

    def start(self, batch: StartBatch) -> None:
        self.send(start=(batch,))

    def break_off(self) -> None:
        self._out.put_nowait(None)

    async def until(self, reached: Callable[[], bool], timeout_s: float = 30.0) -> None:
        async with asyncio.timeout(timeout_s), self.changed:
            await self.changed.wait_for(reached)

    async def run(self, batch: StartBatch) -> dict[int, Heard]:
        """Starts the batch and waits for its end."""
        self.start(batch)
        await self.until(lambda: batch.batch in self.ended)
        return {entry.assignment: self.heard[entry.assignment] for entry in batch.entries}

    async def outgoing(self) -> AsyncIterator[Any]:
        yield encode_router_message(RouterMessage(welcome=self._router_id))
        while (message := await self._out.get()) is not None:
            yield encode_router_message(message)

    async def take(self, message: WorkerMessage) -> None:
        async with self.changed:
            self.messages += 1
            for progress in message.progress:
                heard = self.heard.setdefault(progress.assignment, Heard())
                assert heard.end is None, "nothing comes after the end"
                if (chunk := progress.tokens) is not None:
                    if not heard.token_ids:
                        heard.first_index = chunk.first_index
                    assert chunk.first_index == heard.first_index + len(heard.token_ids), "no gap, no repeat"
                    heard.token_ids += chunk.token_ids
                    heard.text += chunk.text
                heard.end = progress.end
            for ended in message.ended:
                self.ended[ended.batch] = ended.lane
            self.freed += message.freed
            self.draining = self.draining or message.draining
            self.changed.notify_all()

    async def close(self) -> None:
        async with self.changed:
            self.closed = True
            self.changed.notify_all()


class FakeRouter(RouterServiceServicer):
    """Takes in every worker; the test says what it sends. `streams` holds them in the order of their joins.

    With `mute` it takes them in and says nothing.
    """

    def __init__(self, router_id: str = "test-router") -> None:
        self.id = router_id
        self.mute = False
        self.streams: list[Stream] = []
        self.changed = asyncio.Condition()
        self.address = ""

    async def Work(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        messages = aiter(request_iterator)
        first = decode_worker_message(await anext(messages))
        assert first.join is not None, "the join comes first"
        stream = Stream(first.join, self.id)
        async with self.changed:
            self.streams.append(stream)
            self.changed.notify_all()
        if self.mute:
            await asyncio.Event().wait()
        reader = asyncio.create_task(self._read(stream, messages))
        sender = stream.outgoing()
        try:
            while True:
                following = asyncio.ensure_future(anext(sender))
                await asyncio.wait({following, reader}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    return
                yield following.result()
        except StopAsyncIteration:
            return
        finally:
            reader.cancel()

    def Deliver(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        raise NotImplementedError("this router has no gateways")

    async def _read(self, stream: Stream, messages: AsyncIterator[Any]) -> None:
        async for message in messages:
            await stream.take(decode_worker_message(message))
        await stream.close()

    async def stream(self, number: int = 0, timeout_s: float = 30.0) -> Stream:
        """The stream of the join `number`, from 0."""
        async with asyncio.timeout(timeout_s), self.changed:
            await self.changed.wait_for(lambda: len(self.streams) > number)
            return self.streams[number]

    @property
    def peer(self) -> Peer:
        """As other routers tell of it."""
        return Peer(router_id=self.id, address=self.address)


@asynccontextmanager
async def serve_router(port: int = 0, router_id: str = "test-router") -> AsyncIterator[FakeRouter]:
    server = grpc.aio.server()
    router = FakeRouter(router_id)
    add_RouterServiceServicer_to_server(router, server)
    router.address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    await server.start()
    try:
        yield router
    finally:
        await server.stop(0)
