"""Tiny gRPC services of bytes, so that the tests of the plumbing need no proto."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

Servicer = Callable[[grpc.aio.Server], None]


def unary(
    name: str, answer: Callable[[bytes, Any], Awaitable[bytes]], service: str = "test.Service"
) -> Servicer:
    """Registers one method that takes and gives bytes."""
    return _register(service, name, grpc.unary_unary_rpc_method_handler(answer))


def streaming(name: str, answer: Callable[[bytes, Any], Any], service: str = "test.Service") -> Servicer:
    """Registers one method that takes bytes and streams bytes, by generator or by `context.write()`."""
    return _register(service, name, grpc.unary_stream_rpc_method_handler(answer))


def bidirectional(name: str, answer: Callable[[Any, Any], Any], service: str = "test.Service") -> Servicer:
    return _register(service, name, grpc.stream_stream_rpc_method_handler(answer))


def _register(service: str, name: str, handler: grpc.RpcMethodHandler[Any, Any]) -> Servicer:
    generic = grpc.method_handlers_generic_handler(service, {name: handler})
    return lambda server: server.add_generic_rpc_handlers((generic,))


def all_of(*servicers: Servicer) -> Servicer:
    def register(server: grpc.aio.Server) -> None:
        for servicer in servicers:
            servicer(server)

    return register


def call_unary(channel: grpc.aio.Channel, path: str) -> Any:
    """The method as a client calls it; untyped, as bytes without a serialiser are to gRPC's stubs."""
    return channel.unary_unary(path)


def call_streaming(channel: grpc.aio.Channel, path: str) -> Any:
    return channel.unary_stream(path)


def call_bidirectional(channel: grpc.aio.Channel, path: str) -> Any:
    return channel.stream_stream(path)
