"""A router that a test plays: it announces itself, takes requests from the queues, and delivers what the test says."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeout
from opentelemetry.trace import NoOpTracer

from headrace.contract.deliver import (
    Delivery,
    DeliveryMessage,
    GatewayJoin,
    HeldStream,
    Model,
    ModelLoad,
    Recall,
)
from headrace.contract.deliver_wire import decode_gateway_message, encode_delivery_message
from headrace.contract.fingerprint import fingerprint
from headrace.contract.queue_wire import decode_request, encode_result
from headrace.contract.requests import Request
from headrace.contract.subjects import (
    CANCEL_WILDCARD,
    CONTENT_TYPE_PROTOBUF,
    FOLLOWED,
    HEADER_CANCEL_FOR,
    HEADER_CANCEL_KIND,
    HEADER_CONTENT_TYPE,
    HEADER_FINGERPRINT,
    HEADER_REQUEST_ID,
    MEMBERS_BUCKET,
    REQUESTS_STREAM,
    REQUESTS_WILDCARD,
    RESULTS_STREAM,
    parse_cancel,
    parse_queue,
    result_subject,
)
from headrace.contract.values import (
    FinishReason,
    Outcome,
    OutcomeKind,
    Task,
    TokenChunk,
    Usage,
)
from headrace.runtime.grpc_server import GrpcServer
from headrace.v1.router_pb2_grpc import RouterServiceServicer, add_RouterServiceServicer_to_server

LIMIT_S = 10.0
"""How long a test waits for what has to come: far more than it takes."""


def load(name: str = "tiny", **changes: Any) -> ModelLoad:
    """A model of one lane that is free, unless `changes` say otherwise."""
    model = Model(name=name, version="v1", task=Task.GENERATE, context_length=128, lanes=1)
    values: dict[str, Any] = {
        "model": model,
        "waiting": (0, 0, 0, 0),
        "seconds_per_request": 0.5,
        "free_lanes": 1,
    }
    return ModelLoad(**(values | changes))


def chunk(first: int, text: str) -> TokenChunk:
    """One token per character; its id is the character's code."""
    return TokenChunk(
        first_index=first, token_ids=tuple(map(ord, text)), text=text, text_lengths=(1,) * len(text)
    )


def completed(request_id: str, text: str, model: str = "tiny") -> Outcome:
    """The whole outcome of a request that made `text`."""
    return Outcome(
        request_id=request_id,
        kind=OutcomeKind.COMPLETED,
        model=model,
        usage=Usage(prompt_tokens=3, output_tokens=len(text), attempts=1),
        finish_reason=FinishReason.END,
        text=text,
        token_ids=tuple(map(ord, text)),
        text_lengths=(1,) * len(text),
    )


@dataclass(slots=True)
class Taken:
    """A request as the router got it."""

    request: Request
    message: Msg

    @property
    def id(self) -> str:
        return self.request.id


@dataclass(slots=True, eq=False)
class Joined:
    """A gateway's open stream; None in the outbox ends it."""

    join: GatewayJoin
    outbox: asyncio.Queue[DeliveryMessage | None] = field(default_factory=asyncio.Queue)


class ActingRouter(RouterServiceServicer):
    """An async context manager: inside it, the router lives.

    `joins` holds what gateways said, and `left` the ids that nobody waits for there any more; `cancels` what was to be
    cancelled as (request id, kind). A cancellation of an id in `holds` gets its outcome stored and is answered; others
    are only noted. One in `followed` has clients of another gateway: where the last client of one has left, that is the
    answer. It sends everything to every gateway that is joined.
    """

    def __init__(self, nc: Client, router_id: str = "r-1", *loads: ModelLoad, port: int = 0) -> None:
        self.id = router_id
        self.joins: asyncio.Queue[GatewayJoin] = asyncio.Queue()
        self.left: asyncio.Queue[str] = asyncio.Queue()
        self.cancels: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.holds: dict[str, Taken] = {}
        self.followed: set[str] = set()
        self.loads = loads or (load(),)
        self._nc = nc
        self._js = nc.jetstream()
        self._links: list[Joined] = []
        self._started = time.time()
        self._heart: asyncio.Task[None] | None = None
        self._server = GrpcServer(
            host="127.0.0.1",
            port=port,
            setting="test",
            register=lambda server: add_RouterServiceServicer_to_server(self, server),
            tracer=NoOpTracer(),
            grace_s=0.0,
        )

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        self._cancelled = await self._nc.subscribe(CANCEL_WILDCARD, cb=self._on_cancel)
        self._pull = await self._js.pull_subscribe(
            REQUESTS_WILDCARD, durable="acting-router", stream=REQUESTS_STREAM
        )
        await self.report()
        self._heart = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.die()

    async def die(self) -> None:
        """Is gone without a word. Once only."""
        if self._heart is None:
            return
        self._heart.cancel()
        self._heart = None
        if self._nc.is_connected:
            await self._cancelled.unsubscribe()
            await self._pull.unsubscribe()
        await self._server.stop(0.0)

    @property
    def port(self) -> int:
        return self._server.port

    async def report(self) -> None:
        """Says that it lives."""
        entry = {"id": self.id, "address": self._server.address, "started": self._started}
        await (await self._js.key_value(MEMBERS_BUCKET)).put(f"router.{self.id}", json.dumps(entry).encode())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            with suppress(Exception):  # the broker may be stopped by the test
                await self.report()

    async def Work(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        raise NotImplementedError("no worker joins an acting router")
        yield  # type: ignore[unreachable]  # makes it a generator

    async def Deliver(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        messages = aiter(request_iterator)
        join = decode_gateway_message(await anext(messages)).join
        assert join is not None
        self.joins.put_nowait(join)
        joined = Joined(join)
        self._links.append(joined)
        listening = asyncio.create_task(self._listen(messages))
        try:
            yield encode_delivery_message(DeliveryMessage(welcome=self.id, catalogue=self.loads))
            while (message := await joined.outbox.get()) is not None:
                yield encode_delivery_message(message)
        finally:
            listening.cancel()
            self._links.remove(joined)

    async def _listen(self, messages: AsyncIterator[Any]) -> None:
        async for message in messages:
            told = decode_gateway_message(message)
            for request_id in told.left:
                self.left.put_nowait(request_id)
            if told.join is not None:
                self.joins.put_nowait(told.join)

    async def _on_cancel(self, message: Msg) -> None:
        tenant, request_id = parse_cancel(message.subject)
        headers = message.headers or {}
        kind = headers.get(HEADER_CANCEL_KIND, "cancelled")
        self.cancels.put_nowait((request_id, kind))
        if request_id in self.followed and HEADER_CANCEL_FOR in headers:
            if message.reply:
                await message.respond(FOLLOWED.encode())
            return
        taken = self.holds.pop(request_id, None)
        if taken is not None and taken.request.tenant == tenant:
            outcome = Outcome(
                request_id=request_id, kind=OutcomeKind(kind), model=taken.request.model, usage=Usage()
            )
            await self.store(taken, outcome)
            self.say(Delivery(request_id=request_id, finished=outcome))
            if message.reply:
                await message.respond(kind.encode())

    async def take(self) -> Taken:
        """The next request from the queues."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                with suppress(NatsTimeout):
                    (message,) = await self._pull.fetch(1, timeout=1.0)
                    break
        content_type = (message.headers or {}).get(HEADER_CONTENT_TYPE, "")
        request = decode_request(message.data, content_type, parse_queue(message.subject))
        taken = Taken(request, message)
        self.holds[request.id] = taken
        return taken

    def tell(self, message: DeliveryMessage) -> None:
        """Sends a message to every gateway."""
        for link in self._links:
            link.outbox.put_nowait(message)

    def say(self, *deliveries: Delivery) -> None:
        self.tell(DeliveryMessage(deliveries=deliveries))

    async def held(self) -> tuple[HeldStream, ...]:
        """What the next word of a gateway says that its clients have."""
        async with asyncio.timeout(LIMIT_S):
            return (await self.joins.get()).held

    async def asked(self, request_id: str) -> HeldStream | None:
        """Recalls a request from the gateway, and gives its answer."""
        self.tell(DeliveryMessage(recall=(Recall(request_id=request_id, tenant="default"),)))
        async with asyncio.timeout(LIMIT_S):
            joining, leaving = asyncio.create_task(self.held()), asyncio.create_task(self.left.get())
            await asyncio.wait({joining, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not joining.done():
                joining.cancel()
                assert leaving.result() == request_id
                return None
            leaving.cancel()
            (held,) = joining.result()
            assert held.request_id == request_id
            return held

    def tokens(self, request_id: str, first: int, text: str) -> None:
        self.say(Delivery(request_id=request_id, tokens=chunk(first, text)))

    async def store(self, taken: Taken, outcome: Outcome) -> None:
        """Makes an outcome durable, and lets the request go."""
        await self._js.publish(
            result_subject(taken.request.tenant, outcome.request_id),
            encode_result(outcome, as_json=False),
            stream=RESULTS_STREAM,
            headers={
                HEADER_REQUEST_ID: outcome.request_id,
                HEADER_CONTENT_TYPE: CONTENT_TYPE_PROTOBUF,
                HEADER_FINGERPRINT: fingerprint(taken.request),
            },
        )
        await taken.message.ack()
        self.holds.pop(outcome.request_id, None)

    async def finish(self, taken: Taken, text: str) -> Outcome:
        """Ends a request whose tokens, `text`, were sent before."""
        outcome = completed(taken.id, text, taken.request.model)
        await self.store(taken, outcome)
        self.say(Delivery(request_id=taken.id, finished=outcome))
        return outcome

    async def answer(self, text: str) -> Taken:
        """Takes the next request and answers it: one message per character, then the end."""
        taken = await self.take()
        for index, character in enumerate(text):
            self.tokens(taken.id, index, character)
        await self.finish(taken, text)
        return taken
