"""One stream of deliveries from one router, for as long as that router is a member."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio
import structlog

from headrace.contract.deliver import DeliveryMessage
from headrace.contract.deliver_wire import decode_delivery_message, encode_gateway_message
from headrace.contract.errors import HeadraceError
from headrace.gateway.catalogue import Catalogue
from headrace.gateway.streams import Streams
from headrace.gateway.words import Words
from headrace.runtime.grpc_channel import open_channel
from headrace.runtime.keepalive import KEEPALIVE, Keepalive
from headrace.v1.router_pb2_grpc import RouterServiceStub

log = structlog.get_logger(__name__)

MAX_WORDS = 100_000
"""Requests of which a router has still to be told."""


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

    Writers: `run` and what it calls write `_call` and `_joined`; `tell` adds to `_words`.
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
        on_joined: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_lost` is called with the router's id when a stream that was joined breaks, `on_joined` when one is."""
        self.member = member
        self._gateway_id = gateway_id
        self._streams = streams
        self._catalogue = catalogue
        self._redial = redial
        self._on_lost = on_lost
        self._on_joined = on_joined
        self._call: Any = None
        self._joined = False
        self._deaf = False
        self._words = Words(gateway_id, streams, limit=MAX_WORDS)

    @property
    def joined(self) -> bool:
        """Whether the router has answered."""
        return self._joined

    def __repr__(self) -> str:
        return f"<Link to {self.member.id} at {self.member.address}, {'up' if self._joined else 'down'}>"

    async def run(self, is_member: Callable[[], bool]) -> None:
        """Keeps the stream up, and returns when it is down and the router no longer a member."""
        failures = 0
        while True:
            try:
                await self._serve()
                problem = "it ended the stream"
            except asyncio.CancelledError:
                if not self._deaf:
                    self._catalogue.forget(self.member.id)
                    raise
                problem = "it does not take what it is told"
            except grpc.aio.AioRpcError as error:
                problem = error.code().name
            except HeadraceError as error:
                problem = str(error)
            joined, self._deaf = self._joined, False
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
            call = self._call = RouterServiceStub(channel).Deliver()
            talking: asyncio.Task[None] | None = None
            try:
                for message in self._words.everything():
                    await call.write(encode_gateway_message(message))
                talking = asyncio.create_task(self._talk(call), name=f"tell {self.member.id}")
                async for received in call:
                    self._take(decode_delivery_message(received))
            finally:
                self._call = None
                call.cancel()
                if talking is not None:
                    talking.cancel()

    async def _talk(self, call: Any) -> None:
        """Tells the router what is to be told, for as long as the stream is up."""
        try:
            while True:
                for message in await self._words.take():
                    await call.write(encode_gateway_message(message))
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            log.debug(
                "router.not_told", router=self.member.id
            )  # its stream is breaking, as the reader will see

    def _take(self, message: DeliveryMessage) -> None:
        if message.welcome:
            self._joined = True
            self._on_joined()
            log.info("router.joined", router=self.member.id, address=self.member.address)
        if message.catalogue is not None:
            self._catalogue.update(self.member.id, message.catalogue)
        for recall in message.recall:  # before its tokens, which count from then on
            self._streams.recalled(self.member.id, recall)
            self.tell(recall.tenant, recall.request_id)
        for delivery in message.deliveries:
            self._streams.deliver(self.member.id, delivery)
        if message.draining:
            # It finishes what runs, and takes nothing new.
            self._catalogue.forget(self.member.id)

    def tell(self, tenant: str, request_id: str) -> None:
        """Has the router told who waits here for a request, or that nobody does. Does not wait."""
        if self._call is None:
            return  # it is told everything when it is joined
        if not self._words.add(tenant, request_id):
            self._deaf = True
            self._call.cancel()

    def _lose(self) -> None:
        self._catalogue.forget(self.member.id)
        if self._joined:
            self._joined = False
            self._on_lost(self.member.id)
