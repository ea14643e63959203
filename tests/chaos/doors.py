"""The gateways as a client sees them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc.aio

from headrace.client.client import HeadraceClient
from headrace.client.failures import error_of_call
from headrace.client.request import Ask, request_of
from headrace.contract import client_wire as wire
from headrace.contract.errors import Unavailable
from headrace.contract.inference_wire import Attachment, encode_attach, encode_generate
from headrace.contract.values import Accepted, Outcome, QueuePosition, TokenChunk
from headrace.runtime.grpc_channel import open_channel
from headrace.v1.inference_pb2_grpc import InferenceServiceStub
from tests.chaos.asked import Asked

Event: TypeAlias = "Accepted | QueuePosition | TokenChunk | Outcome"

TEMPERATURE = 0.8
"""Of sampled requests."""
ATTACH_WAIT_S = 5.0
"""For a request that nobody seems to know; then another gateway is asked."""


class Door:
    """One gateway. `generate` and `attach` give the last event as it is, where the Python client raises what failed,
    and whatever comes after it. They raise errors of the tree; Unavailable where a stream ends without an outcome.
    """

    def __init__(self, name: str, address: str, model: str) -> None:
        self.name = name
        self.client = HeadraceClient(address)
        self._address = address
        self._model = model
        self._stack = AsyncExitStack()
        self._stub: Any = None

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.client)
        self._stub = InferenceServiceStub(await self._stack.enter_async_context(open_channel(self._address)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def generate(self, asked: Asked) -> AsyncGenerator[Event]:
        """The events of a request that is asked for. Closing it early cancels the call."""
        request = replace(request_of(self._model, _ask(asked)), keep=asked.keep)
        return _events(self._stub.Generate(encode_generate(request), timeout=asked.timeout_s))

    def attach(self, asked: Asked, from_index: int) -> AsyncGenerator[Event]:
        """The events of a request that was asked for, from a token on."""
        attachment = Attachment(
            tenant=asked.tenant,
            request_id=asked.request_id,
            from_index=from_index,
            wait_s=ATTACH_WAIT_S,
        )
        return _events(self._stub.Attach(encode_attach(attachment)))

    async def submit(self, asked: Asked) -> None:
        ask = _ask(asked)
        if asked.timeout_s is not None:
            ask["timeout_s"] = asked.timeout_s
        await self.client.submit(model=self._model, **ask)


async def _events(call: Any) -> AsyncGenerator[Event]:
    ended = False
    try:
        async for response in call:
            event = wire.decode_generate_response(response)
            if event is not None:
                ended = ended or isinstance(event, Outcome)
                yield event
    except grpc.aio.AioRpcError as error:
        if not ended:
            raise error_of_call(error) from error
    finally:
        call.cancel()
    if not ended:
        raise Unavailable("gateway", "the stream ended without an outcome")


def _ask(asked: Asked) -> Ask:
    return {
        "prompt": asked.prompt,
        "max_tokens": asked.max_tokens,
        "stop": asked.stop,
        "tenant": asked.tenant,
        "priority": asked.priority,
        "ignore_end": asked.ignore_end,
        "temperature": TEMPERATURE if asked.sampled else 0.0,
        "request_id": asked.request_id,
    }
