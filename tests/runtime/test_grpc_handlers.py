"""What is put around handlers, whatever they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from headrace.contract.errors import MalformedMessage
from headrace.runtime.grpc_handlers import wrap


class Around:
    """Notes what the surroundings of a call see: its entry, and how it ended."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @asynccontextmanager
    async def __call__(self, context: Any) -> AsyncIterator[None]:
        self.seen.append("in")
        try:
            yield
        except BaseException as error:
            self.seen.append(type(error).__name__)
            raise
        self.seen.append("out")


@pytest.mark.parametrize("grouped", [False, True])
async def test_write_to_nobody_is_a_cancellation(grouped: bool) -> None:
    """A write that fails as the client is gone ends the call as a cancellation does, also out of a task group."""

    async def answer(request: bytes, context: Any) -> bytes:
        gone = grpc.aio.InternalError("execute_batch")
        raise ExceptionGroup("tasks", [gone]) if grouped else gone

    around = Around()
    handler: Any = wrap(grpc.unary_unary_rpc_method_handler(answer), around)
    with pytest.raises(asyncio.CancelledError):
        await handler.unary_unary(b"", None)
    assert around.seen == ["in", "CancelledError"]


async def test_other_errors_pass_as_they_are() -> None:
    """No other error is taken for a cancellation, also not beside one."""

    async def answer(request: bytes, context: Any) -> bytes:
        raise ExceptionGroup("tasks", [grpc.aio.InternalError("execute_batch"), ValueError()])

    handler: Any = wrap(grpc.unary_unary_rpc_method_handler(answer), Around())
    with pytest.raises(ExceptionGroup):
        await handler.unary_unary(b"", None)


async def test_each_kind_keeps_its_kind_and_codec() -> None:
    """A wrapped handler takes and gives streams where the original does, and keeps its serialisers."""

    async def answer(request: Any, context: Any) -> bytes:
        return b"answer"

    for make in (
        grpc.unary_unary_rpc_method_handler,
        grpc.unary_stream_rpc_method_handler,
        grpc.stream_unary_rpc_method_handler,
        grpc.stream_stream_rpc_method_handler,
    ):
        original: Any = make(answer, request_deserializer=bytes.upper, response_serializer=bytes.lower)
        around = Around()
        wrapped: Any = wrap(original, around)
        assert (wrapped.request_streaming, wrapped.response_streaming) == (
            original.request_streaming,
            original.response_streaming,
        )
        assert wrapped.request_deserializer is bytes.upper
        assert wrapped.response_serializer is bytes.lower
        behaviours = (wrapped.unary_unary, wrapped.unary_stream, wrapped.stream_unary, wrapped.stream_stream)
        (behaviour,) = (found for found in behaviours if found)
        assert await behaviour(b"", None) == b"answer"
        assert around.seen == ["in", "out"]


def test_plain_function_is_left_alone() -> None:
    """A handler that gRPC would run in a thread is given back as it is."""
    handler: Any = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
    assert wrap(handler, Around()) is handler


async def test_a_stream_is_good_up_to_the_bytes_that_cannot_be_read() -> None:
    """They raise an error of ours where the handler would have read them: gRPC's own is no answer for a peer."""
    read: list[bytes] = []

    async def answer(requests: Any, context: Any) -> bytes:
        async for request in requests:
            read.append(request)
        return b""

    def decode(raw: bytes) -> bytes:
        if raw == b"bad":
            raise ValueError("not a message")
        return raw

    async def sent(deserialise: Any) -> AsyncIterator[Any]:
        for raw in (b"good", b"bad", b"late"):
            yield deserialise(raw)

    original: Any = grpc.stream_unary_rpc_method_handler(answer, request_deserializer=decode)
    handler: Any = wrap(original, Around(), refuse_unreadable=True)
    with pytest.raises(MalformedMessage):
        await handler.stream_unary(sent(handler.request_deserializer), None)
    assert read == [b"good"]
