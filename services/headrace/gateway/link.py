"""One stream of deliveries from one router, for as long as that router is a member."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio
import structlog

from headrace.contract.deliver import DeliveryMessage, GatewayJoin, GatewayMessage
from headrace.contract.deliver_wire import decode_delivery_message, encode_gateway_message
from headrace.contract.errors import HeadraceError
from headrace.gateway.catalogue import Catalogue
from headrace.gateway.streams import Stream, Streams, pieces
from headrace.runtime.grpc_channel import open_channel
from headrace.runtime.keepalive import KEEPALIVE, Keepalive
from headrace.v1.router_pb2_grpc import RouterServiceStub

log = structlog.get_logger(__name__)

TOKENS_PER_JOIN = 200_000
"""Tokens of held streams in one message: with their text about 2 MB, well below the largest message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A router as it announces itself. Another `started` is another process."""

    id: str
    address: str
    started: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Redial:
    """How a router that is not there is tried again."""

    wait_s: float
    max_wait_s: float
    max_message_bytes: int
    keepalive: Keepalive = KEEPALIVE

    def pause_s(self, failures: int) -> float:
        """Doubled each time, less up to half by chance, so that gateways do not come all at once."""
        most = min(self.max_wait_s, self.wait_s * 2.0 ** min(failures - 1, 16))
        return most * (1 - random.random() / 2)


class Link:
    """Dials a router, tells it who waits here, and hands on what it delivers.

    Writers: `run` alone writes `_call`.
    """

    def __init__(
        self,
        member: Member,
        *,
        gateway_id: str,
        streams: Streams,
        catalogue: Catalogue,
        redial: Redial,
        on_lost: Callable[[str], None],
    ) -> None:
        """`on_lost` is called with the router's id when a stream that was joined breaks."""
        self.member = member
        self._gateway_id = gateway_id
        self._streams = streams
        self._catalogue = catalogue
        self._redial = redial
        self._on_lost = on_lost
        self._call: Any = None

    def __repr__(self) -> str:
        return f"<Link to {self.member.id} at {self.member.address}, {'up' if self._call else 'down'}>"

    async def run(self, is_member: Callable[[], bool]) -> None:
        """Keeps the stream up, and returns when it is down and the router no longer a member."""
        failures = 0
        while True:
            try:
                await self._serve()
                problem = "it ended the stream"
            except asyncio.CancelledError:
                self._catalogue.forget(self.member.id)
                raise
            except grpc.aio.AioRpcError as error:
                problem = error.code().name
            except HeadraceError as error:
                problem = str(error)
            joined = self._call is not None
            self._lose()
            failures = 1 if joined else failures + 1
            if failures == 1:  # said once, however often it is tried
                log.warning(
                    "router.left" if joined else "router.not_reached",
                    router=self.member.id,
                    address=self.member.address,
                    problem=problem,
                )
            if not is_member():
                return
            await asyncio.sleep(self._redial.pause_s(failures))
            if not is_member():
                return

    async def _serve(self) -> None:
        async with open_channel(
            self.member.address,
            keepalive=self._redial.keepalive,
            max_message_bytes=self._redial.max_message_bytes,
        ) as channel:
            call = RouterServiceStub(channel).Deliver()
            try:
                await self._join(call, self._streams.waiting())
                async for message in call:
                    self._take(call, decode_delivery_message(message))
            finally:
                call.cancel()

    async def _join(self, call: Any, streams: tuple[Stream, ...]) -> None:
        for held in pieces(streams, TOKENS_PER_JOIN):
            join = GatewayJoin(gateway_id=self._gateway_id, held=held)
            await call.write(encode_gateway_message(GatewayMessage(join=join)))

    def _take(self, call: Any, message: DeliveryMessage) -> None:
        if message.welcome:
            self._call = call
            log.info("router.joined", router=self.member.id, address=self.member.address)
        if message.catalogue is not None:
            self._catalogue.update(self.member.id, message.catalogue)
        for delivery in message.deliveries:
            self._streams.deliver(self.member.id, delivery)
        if message.draining:
            # It finishes what runs, and takes nothing new.
            self._catalogue.forget(self.member.id)

    async def tell(self, streams: tuple[Stream, ...]) -> None:
        """Tells the router of streams that lost theirs: it may be the one to go on with them."""
        if self._call is None:
            return  # it is told when it is joined
        try:
            await self._join(self._call, streams)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            log.debug("router.not_told", router=self.member.id)  # its stream is breaking

    def _lose(self) -> None:
        self._catalogue.forget(self.member.id)
        if self._call is not None:
            self._call = None
            self._on_lost(self.member.id)
