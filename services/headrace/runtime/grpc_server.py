"""The gRPC server of a process: bound to one address of its own, with health, reflection, tracing and statuses."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry.trace import Tracer

from headrace.contract.errors import StartError
from headrace.runtime.grpc_channel import MAX_MESSAGE_BYTES, size_options
from headrace.runtime.grpc_metrics import CallMetrics
from headrace.runtime.grpc_status import StatusInterceptor
from headrace.runtime.grpc_tracing import TracingInterceptor
from headrace.runtime.keepalive import KEEPALIVE, Keepalive
from headrace.runtime.metrics import Metrics

GRACE_S = 5.0
"""How long calls that run may go on after a stop: half of what supervisors tend to give."""

MAX_CONCURRENT_CALLS = 4096
"""Calls beyond it are answered RESOURCE_EXHAUSTED at once: it bounds the memory that callers can claim."""


class PortInUse(StartError):
    """Another process, or another part of this one, listens there already. `setting` is what to change."""

    def __init__(self, host: str, port: int, setting: str) -> None:
        super().__init__(
            f"{_address(host, port)} is in use by another server",
            f"Stop that one, or choose another port with {setting}",
        )
        self.host = host
        self.port = port
        self.setting = setting


class GrpcServer:
    """A `grpc.aio` server as an async context manager: inside it serves, leaving it stops gracefully.

    Health: the process as a whole ("") serves from the start; each of `services` does not until `set_serving` says so.
    Writers: `_server`, `_health`, `port` by `__aenter__` and `stop`.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        setting: str,
        register: Callable[[grpc.aio.Server], None],
        services: Sequence[str] = (),
        tracer: Tracer,
        metrics: Metrics | None = None,
        grace_s: float = GRACE_S,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_answer_bytes: int | None = None,
        max_concurrent_calls: int = MAX_CONCURRENT_CALLS,
        keepalive: Keepalive = KEEPALIVE,
    ) -> None:
        """Port 0 takes any free one. `setting` names the port's setting in errors. `register` adds the servicers.

        `services` are full service names, for health and reflection. `max_message_bytes` bounds what is received, and
        what is sent unless `max_answer_bytes` does. `metrics`: of its calls; None = not measured.
        """
        self.host = host
        self.port = port
        self._setting = setting
        self._register = register
        self._services = tuple(services)
        self._tracer = tracer
        self._calls = CallMetrics(metrics or Metrics())
        self._grace_s = grace_s
        self._max_concurrent_calls = max_concurrent_calls
        self._options = (
            *keepalive.server_options(),
            *size_options(max_message_bytes, max_answer_bytes),
            # Of one connection: gRPC takes a call that its client closes without a message for over, and keeps it. More
            # than may run, so that a client hears a refusal instead of waiting for its own connection.
            ("grpc.max_concurrent_streams", 2 * max_concurrent_calls),
            ("grpc.so_reuseport", 0),  # with it, two servers would silently share a port and split its calls
        )
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        """`host:port` as bound, to dial."""
        return _address(self.host, self.port)

    async def __aenter__(self) -> Self:
        """Binds and serves. Raises PortInUse, or StartError for an address that cannot be bound."""
        numeric = _check_address(self.host, self.port, self._setting)
        server = grpc.aio.server(
            interceptors=[TracingInterceptor(self._tracer), self._calls, StatusInterceptor()],
            options=self._options,
            maximum_concurrent_rpcs=self._max_concurrent_calls,
        )
        self._register(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection(
            (*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )
        try:
            self.port = server.add_insecure_port(_address(numeric, self.port))
        except RuntimeError as error:  # somebody took it since it was checked
            raise PortInUse(self.host, self.port, self._setting) from error
        for service in self._services:
            await self.set_serving(service, serving=False)
        await server.start()
        self._server = server
        return self

    async def set_serving(self, service: str, serving: bool) -> None:
        """Sets what grpc.health.v1 answers for `service`, "" being the process as a whole."""
        status = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        await self._health.set(service, status)

    async def stop(self, grace_s: float | None = None) -> None:
        """Says NOT_SERVING, refuses new calls, lets running ones go on for the grace, then cancels them. Once only."""
        server, self._server = self._server, None
        if server is None:
            return
        await self._health.enter_graceful_shutdown()
        await server.stop(self._grace_s if grace_s is None else grace_s)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.stop()

    def __repr__(self) -> str:
        return f"<GrpcServer {self.address} {'serving' if self._server else 'not serving'}>"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_address(host: str, port: int, setting: str) -> str:
    """The one numeric address to bind for `host`, IPv4 before IPv6, after a bind in passing that says what is wrong.

    gRPC given a name would bind whichever of its addresses are free, and serve on half of `localhost` unnoticed; and
    its error does not tell a port in use from a host that is not ours.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise StartError(
            f"the host {host!r} of {setting} cannot be resolved", "Use an address of this machine"
        ) from error
    family, kind, _, _, where = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(host, port, setting) from error
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise StartError(
                f"cannot listen on {_address(host, port)}: {reason}", f"Change {setting}"
            ) from error
    return str(where[0])
