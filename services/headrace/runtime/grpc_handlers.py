"""Puts something around the handlers of a `grpc.aio` server, whichever of the two ways of answering a handler uses.

A handler with a stream of responses may be an async generator or may call `context.write()`. Both come out as a
coroutine that writes. That has a reason: a generator that waits at its `yield` when the client goes away is not told,
it is only collected some time later; the coroutine gets the CancelledError at once and closes the generator itself,
so that the handler's `finally` blocks run then and there.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, TypeAlias

import grpc
import grpc.aio

from headrace.contract.errors import MalformedMessage
from headrace.runtime.error_groups import leaves

ServicerContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Around: TypeAlias = Callable[[ServicerContext], AbstractAsyncContextManager[None]]
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"

_MAKE: dict[tuple[bool, bool], Callable[..., Handler]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


# Stands for a request whose bytes could not be read. gRPC itself would answer UNKNOWN, and log a stack for each.
_UNREADABLE = object()


def wrap(handler: Handler, around: Around, *, refuse_unreadable: bool = False) -> Handler:
    """`handler`, each call of which runs inside `async with around(context)`.

    A plain function, which gRPC would run in a thread, is given back as it is. With `refuse_unreadable`, a request
    whose bytes are not the method's message raises MalformedMessage inside `around`; one of a stream of requests where
    the handler would have read it.
    """
    answer = _answer_of(handler)
    generates = inspect.isasyncgenfunction(answer)
    if not generates and not inspect.iscoroutinefunction(answer):
        return handler

    async def surrounded(request: Any, context: ServicerContext) -> Any:
        async with around(context):
            if refuse_unreadable:
                request = _readable(request) if handler.request_streaming else _checked(request)
            try:
                if not generates:
                    return await answer(request, context)
                async with aclosing(answer(request, context)) as responses:
                    async for response in responses:
                        await context.write(response)
            except Exception as error:
                if _is_write_to_nobody(error):
                    raise asyncio.CancelledError from error
                raise
            return None

    return _MAKE[handler.request_streaming, handler.response_streaming](
        surrounded,
        request_deserializer=_tolerant(handler) if refuse_unreadable else handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _is_write_to_nobody(error: Exception) -> bool:
    """Whether a write failed as the client is gone: now and then it fails before the cancellation comes through."""
    return all(isinstance(leaf, grpc.aio.InternalError | asyncio.CancelledError) for leaf in leaves(error))


def _tolerant(handler: Handler) -> Callable[[bytes], Any] | None:
    """The handler's deserialiser, with _UNREADABLE for what it cannot read."""
    deserialise = handler.request_deserializer
    if deserialise is None:
        return None

    def read(raw: bytes) -> Any:
        try:
            return deserialise(raw)
        except Exception:  # whatever it raises is about these bytes
            return _UNREADABLE

    return read


def _checked(request: Any) -> Any:
    if request is _UNREADABLE:
        raise MalformedMessage("request", "its bytes are not the message that this method takes")
    return request


async def _readable(requests: Any) -> AsyncIterator[Any]:
    async for request in requests:
        yield _checked(request)


def _answer_of(handler: Handler) -> Callable[[Any, ServicerContext], Any]:
    found: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    assert found is not None, "a method handler has exactly one behaviour"
    return found  # type: ignore[no-any-return]
