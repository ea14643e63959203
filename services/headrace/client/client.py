"""A connection to a gateway, and what can be asked of it.

async with HeadraceClient("127.0.0.1:7700") as client:
    async for event in client.generate(prompt="The capital of France is", model="smollm2"):
        if isinstance(event, TokenChunk):
            print(event.text, end="")
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeAlias, Unpack

import grpc.aio

from headrace.client.failures import error_of_call, error_of_failure
from headrace.client.request import Ask, request_of
from headrace.contract import client_wire as wire
from headrace.contract.deliver import Model
from headrace.contract.errors import HeadraceError, NotFound, Unavailable
from headrace.contract.inference_wire import DEFAULT_TENANT, encode_generate
from headrace.contract.values import Accepted, Outcome, OutcomeKind, QueuePosition, TokenChunk
from headrace.runtime.grpc_channel import open_channel
from headrace.runtime.grpc_tracing import call_metadata
from headrace.runtime.keepalive import KEEPALIVE, Keepalive
from headrace.v1.inference_pb2_grpc import InferenceServiceStub

Event: TypeAlias = "Accepted | QueuePosition | TokenChunk | Outcome"

LONGEST_WAIT_S = 300.0
"""That one GetResult call may be asked to wait."""

ANSWER_S = 10.0
"""How long a gateway may take to answer a call that it answers at once; a request's own time is another matter."""


LARGEST_ANSWER_BYTES = 65 * 1024 * 1024
"""The largest outcome that a mesh can be set to keep, and what stands around it; gRPC's own limit is 4 MiB."""


class HeadraceClient:
    """One connection to a gateway, for any number of calls at once. Use it as `async with`.

    Calls raise errors of `headrace.contract.errors`. The trace that is current where a call is made goes with it.
    """

    def __init__(self, address: str, *, keepalive: Keepalive = KEEPALIVE) -> None:
        """`address` is the gateway's `host:port`. The connection is made with the first call, and remade when lost."""
        self.address = address
        self._keepalive = keepalive
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None

    def __repr__(self) -> str:
        return f"<HeadraceClient {self.address}{'' if self._channel else ', closed'}>"

    async def __aenter__(self) -> Self:
        self._channel = open_channel(
            self.address, keepalive=self._keepalive, max_message_bytes=LARGEST_ANSWER_BYTES
        )
        self._stub = InferenceServiceStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close()

    async def generate(self, *, model: str, **ask: Unpack[Ask]) -> AsyncGenerator[Event, None]:
        """The events of a request as they come: Accepted, places in the queue and tokens, and the Outcome last.

        An outcome that is an error is raised as that error; completed and cancelled ones are given. Closing the
        iterator before its end cancels the request. Tokens have the indices 0, 1, 2, … without gap or repeat.
        """
        request = request_of(model, ask)
        call = self._open().Generate(
            encode_generate(request), timeout=ask.get("timeout_s"), metadata=call_metadata()
        )
        try:
            async for response in call:
                event = wire.decode_generate_response(response)
                if event is None:
                    continue
                if isinstance(event, Outcome):
                    yield _checked(event)
                    return
                yield event
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error) from error
        finally:
            call.cancel()
        raise Unavailable("gateway", "the stream ended without an outcome")

    async def complete(self, *, model: str, **ask: Unpack[Ask]) -> Outcome:
        """The outcome of a request with its whole text and token ids. Cancelling the caller cancels the request."""
        chunks: list[TokenChunk] = []
        async with aclosing(self.generate(model=model, **ask)) as events:
            async for event in events:
                if isinstance(event, TokenChunk):
                    chunks.append(event)
                elif isinstance(event, Outcome):
                    return replace(
                        event,
                        text="".join(chunk.text for chunk in chunks),
                        token_ids=tuple(token for chunk in chunks for token in chunk.token_ids),
                    )
        raise AssertionError("generate ends with an outcome or raises")

    async def submit(self, *, model: str, **ask: Unpack[Ask]) -> Accepted:
        """Queues a request and returns; `result` fetches its outcome. `timeout_s` becomes the request's deadline."""
        request = request_of(model, ask)
        if (timeout_s := ask.get("timeout_s")) is not None:
            request = replace(request, deadline_s=time.time() + timeout_s)
        response = await self._ask("Submit", wire.encode_submit(request), ANSWER_S)
        return wire.decode_submit_response(response)

    async def result(self, request_id: str, *, tenant: str = DEFAULT_TENANT, wait_s: float = 0.0) -> Outcome:
        """The outcome, whole, however it ended. Raises NotFound where there is none after `wait_s`.

        Asks again where the gateway waits for less than that at a time.
        """
        until_s = time.monotonic() + wait_s
        while True:
            left_s = max(0.0, min(until_s - time.monotonic(), LONGEST_WAIT_S))
            message = wire.encode_get_result(tenant, request_id, left_s)
            try:
                return wire.decode_result_response(await self._ask("GetResult", message, left_s + ANSWER_S))
            except NotFound:
                if time.monotonic() >= until_s:
                    raise

    async def cancel(self, request_id: str, *, tenant: str = DEFAULT_TENANT) -> OutcomeKind:
        """Ends a request, waiting or running, and gives the outcome that it has now."""
        response = await self._ask("Cancel", wire.encode_cancel(tenant, request_id), ANSWER_S)
        return wire.decode_cancel_response(response)

    async def models(self) -> tuple[Model, ...]:
        """The models that can be asked for."""
        return wire.decode_models_response(await self._ask("ListModels", wire.encode_list_models(), ANSWER_S))

    async def _ask(self, method: str, message: Any, timeout_s: float) -> Any:
        try:
            return await getattr(self._open(), method)(message, timeout=timeout_s, metadata=call_metadata())
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error) from error

    def _open(self) -> Any:
        if self._stub is None:
            raise RuntimeError("the client is closed: use it inside `async with`")
        return self._stub


def _checked(outcome: Outcome) -> Outcome:
    """Gives back an outcome that is no error, and raises the error of one that is."""
    if outcome.kind in (OutcomeKind.COMPLETED, OutcomeKind.CANCELLED):
        return outcome
    if outcome.failure is None:
        raise HeadraceError(f"request {outcome.request_id} ended as {outcome.kind.value}, without a reason")
    raise error_of_failure(outcome.failure)
