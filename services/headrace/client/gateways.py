"""The gateways of a mesh as a client knows them: some addresses, of which one is used until it fails."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio

from headrace.client.failures import error_of_call
from headrace.contract.errors import HeadraceError, InvalidRequest, Unavailable
from headrace.runtime.grpc_channel import open_channel
from headrace.runtime.grpc_status import problem_of
from headrace.runtime.keepalive import CLIENT_KEEPALIVE, Keepalive

LARGEST_ANSWER_BYTES = 65 * 1024 * 1024
"""The largest outcome that a mesh can be set to keep, and what stands around it; gRPC's own limit is 4 MiB."""

_ADDRESS = re.compile(r"[^\s,/]+:[0-9]{1,5}")


@dataclass(slots=True, eq=False, kw_only=True)
class Gateway:
    """One of them. Its connection is made with the first call, and remade when lost."""

    address: str
    keepalive: Keepalive
    service: Callable[[grpc.aio.Channel], Any]
    _channel: grpc.aio.Channel | None = None
    _stub: Any = None

    @property
    def stub(self) -> Any:
        if self._channel is None:
            self._channel = open_channel(
                self.address, keepalive=self.keepalive, max_message_bytes=LARGEST_ANSWER_BYTES
            )
            self._stub = self.service(self._channel)
        return self._stub

    async def close(self) -> None:
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close()


class Gateways:
    """All of them, in the order of the addresses. Writers: `failed` alone moves on to another."""

    def __init__(
        self,
        addresses: str,
        service: Callable[[grpc.aio.Channel], Any],
        keepalive: Keepalive = CLIENT_KEEPALIVE,
    ) -> None:
        """`addresses` is `host:port`, or several with commas between; `service` is the stub's class. Raises
        InvalidRequest.
        """
        self._gateways = [
            Gateway(address=address, keepalive=keepalive, service=service)
            for address in parse_addresses(addresses)
        ]
        self._at = 0

    def __len__(self) -> int:
        return len(self._gateways)

    def __repr__(self) -> str:
        return f"<Gateways {', '.join(each.address for each in self._gateways)}, at {self.current.address}>"

    @property
    def current(self) -> Gateway:
        """The one to be called now."""
        return self._gateways[self._at]

    def failed(self, gateway: Gateway) -> None:
        """It does not answer: the next one is to be called, unless another call has said so already."""
        if gateway is self.current:
            self._at = (self._at + 1) % len(self._gateways)

    async def ask(
        self, method: str, message: Any, timeout_s: float, metadata: Sequence[tuple[str, str]]
    ) -> Any:
        """The answer of the first gateway that gives one, each within `timeout_s`: for what may be asked twice."""
        for left in reversed(range(len(self))):
            gateway = self.current
            try:
                return await getattr(gateway.stub, method)(message, timeout=timeout_s, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                problem = _problem(error, gateway, timeout_s)
                if not isinstance(problem, Unavailable) or not left:
                    raise problem from error
            self.failed(gateway)
        raise AssertionError("there is at least one gateway")

    async def finish(
        self,
        method: str,
        message: Any,
        timeout_s: float | None,
        metadata: Callable[[], Sequence[tuple[str, str]]],
    ) -> Any:
        """The answer to a request that takes its time, and has an id where there are several gateways: the next one is
        asked where one is lost, and gives the same answer. `timeout_s` is for all of them together.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        for left in reversed(range(len(self))):
            gateway = self.current
            left_s = None if until_s is None else until_s - time.monotonic()
            try:
                return await getattr(gateway.stub, method)(message, timeout=left_s, metadata=metadata())
            except grpc.aio.AioRpcError as error:
                problem = error_of_call(error)
                if not isinstance(problem, Unavailable) or not left:
                    raise problem from error
            self.failed(gateway)
        raise AssertionError("there is at least one gateway")

    async def close(self) -> None:
        for gateway in self._gateways:
            await gateway.close()


def _problem(error: grpc.aio.AioRpcError, gateway: Gateway, timeout_s: float) -> HeadraceError:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not problem_of(error).code:
        return Unavailable("gateway", f"{gateway.address} did not answer within {timeout_s:g} s")
    return error_of_call(error)


def parse_addresses(addresses: str) -> tuple[str, ...]:
    """The addresses in `host:port,host:port`. Raises InvalidRequest."""
    found = tuple(address.strip() for address in addresses.split(","))
    for address in found:
        if not _ADDRESS.fullmatch(address):
            raise InvalidRequest(
                "address",
                f"must be HOST:PORT, such as 127.0.0.1:7700, or several with commas between (was {addresses[:80]!r})",
            )
    return found
