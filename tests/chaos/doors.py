"""The gateways as a client sees them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import grpc.aio

from headrace.client.client import HeadraceClient
from headrace.client.failures import error_of_call
from headrace.client.request import request_of
from headrace.contract import client_wire as wire
from headrace.contract.errors import Unavailable
from headrace.contract.inference_wire import encode_generate
from headrace.contract.values import Accepted, Outcome, QueuePosition, TokenChunk
from headrace.runtime.grpc_channel import open_channel
from headrace.v1.inference_pb2_grpc import InferenceServiceStub
from tests.chaos.asked import Asked

TEMPERATURE = 0.8
"""Of sampled requests."""


class Door:
    """One gateway. `generate` gives the last event as it is, where the Python client raises what failed."""

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

    async def generate(self, asked: Asked) -> AsyncGenerator[Accepted | QueuePosition | TokenChunk | Outcome]:
        """The events of a stream. Raises errors of the tree; closing it early cancels the call."""
        request = request_of(
            self._model,
            {
                "prompt": asked.prompt,
                "max_tokens": asked.max_tokens,
                "stop": asked.stop,
                "priority": asked.priority,
                "ignore_end": asked.ignore_end,
                "temperature": TEMPERATURE if asked.sampled else 0.0,
                "request_id": asked.request_id,
            },
        )
        call = self._stub.Generate(encode_generate(request), timeout=asked.timeout_s)
        try:
            async for response in call:
                event = wire.decode_generate_response(response)
                if event is not None:
                    yield event
                if isinstance(event, Outcome):
                    return
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error) from error
        finally:
            call.cancel()
        raise Unavailable("gateway", "the stream ended without an outcome")

    async def submit(self, asked: Asked) -> None:
        await self.client.submit(
            model=self._model,
            prompt=asked.prompt,
            max_tokens=asked.max_tokens,
            stop=asked.stop,
            priority=asked.priority,
            ignore_end=asked.ignore_end,
            temperature=TEMPERATURE if asked.sampled else 0.0,
            request_id=asked.request_id,
        )
