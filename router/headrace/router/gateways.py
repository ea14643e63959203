"""The gateways' `Deliver` streams: who holds which client, and what waits to be sent to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

import structlog

from headrace.contract.deliver import DeliveryMessage, GatewayMessage, HeldStream, ModelLoad
from headrace.contract.errors import MalformedMessage
from headrace.contract.subjects import is_name
from headrace.contract.values import Outcome, TokenChunk
from headrace.router.outbox import Outbox

log = structlog.get_logger(__name__)

MAX_HELD = 100_000
"""Streams that one gateway may say it holds; more is no gateway of ours."""


@dataclass(slots=True, eq=False)
class GatewayLink:
    """One gateway's open stream.

    Invariant: `in_step` are the requests whose deliveries on this stream have had no gap, so that the next chunk
    follows what the gateway has. `held` are those that it told of and nobody took over here yet.
    """

    gateway_id: str
    held: dict[str, HeldStream] = field(default_factory=dict)
    in_step: set[str] = field(default_factory=set)
    outbox: Outbox = field(default_factory=Outbox)

    def tokens(self, request_id: str, chunk: TokenChunk) -> None:
        """Sends tokens, if they follow what the gateway has; else it is still to say what that is."""
        if chunk.first_index == 0:
            self.in_step.add(request_id)
        if request_id in self.in_step:
            self.outbox.tokens(request_id, chunk)

    def catch_up(self, request_id: str, missed: TokenChunk | None) -> None:
        """Sends what the gateway misses of a request; from now on it is in step."""
        self.in_step.add(request_id)
        if missed is not None:
            self.outbox.tokens(request_id, missed)

    def finished(self, request_id: str, outcome: Outcome) -> None:
        """Sends the end. A gateway that was not in step finds the rest in the durable outcome."""
        self.in_step.discard(request_id)
        self.held.pop(request_id, None)
        self.outbox.finished(request_id, outcome)


class Gateways:
    """The links, by gateway. A gateway that is away gets what it missed when it joins again."""

    def __init__(self, router_id: str) -> None:
        self._router_id = router_id
        self._links: dict[str, GatewayLink] = {}
        self._catalogue: tuple[ModelLoad, ...] = ()
        self._on_held: Callable[[GatewayLink], None] = lambda link: None
        self._leaving = False

    def __len__(self) -> int:
        return len(self._links)

    def on_held(self, act: Callable[[GatewayLink], None]) -> None:
        """`act` is called with a link whose gateway has just told what its clients hold."""
        self._on_held = act

    def take_held(self, gateway_id: str, request_id: str) -> HeldStream | None:
        """What the gateway's client has of a request that is taken over here, if the gateway told."""
        link = self._links.get(gateway_id)
        held = None if link is None else link.held.pop(request_id, None)
        if link is not None and held is not None:
            link.in_step.add(request_id)
        return held

    def tokens(self, gateway_id: str, request_id: str, chunk: TokenChunk) -> None:
        if (link := self._links.get(gateway_id)) is not None:
            link.tokens(request_id, chunk)

    def finished(self, gateway_id: str, request_id: str, outcome: Outcome) -> None:
        if (link := self._links.get(gateway_id)) is not None:
            link.finished(request_id, outcome)

    def catalogue(self, models: tuple[ModelLoad, ...]) -> None:
        """Tells every gateway, where it changed."""
        if models != self._catalogue:
            self._catalogue = models
            for link in self._links.values():
                link.outbox.catalogue(models)

    def leave(self) -> None:
        """Tells every gateway that this router goes, and ends the streams when all is sent."""
        self._leaving = True
        for link in self._links.values():
            link.outbox.catalogue(())

    async def serve(self, messages: AsyncIterator[GatewayMessage]) -> AsyncIterator[DeliveryMessage]:
        """The messages for one gateway, until it goes or this router does. Raises MalformedMessage."""
        first = await anext(messages, None)
        join = None if first is None else first.join
        if join is None or not is_name(join.gateway_id):
            raise MalformedMessage("GatewayMessage.join", "must come first, with a gateway_id that is a name")
        link = self._links[join.gateway_id] = GatewayLink(join.gateway_id)  # replaces one that it gave up
        link.outbox.catalogue(self._catalogue)
        self._told(link, join.held)
        log.info("gateway.joined", gateway=join.gateway_id, held=len(link.held))
        reader = asyncio.create_task(self._read(link, messages), name=f"gateway {join.gateway_id}: read")
        reader.add_done_callback(lambda _: link.outbox.wake())
        try:
            yield DeliveryMessage(welcome=self._router_id)
            while True:
                deliveries, catalogue = await link.outbox.take()
                if reader.done():
                    reader.result()  # raises where it makes no sense
                    return  # it told that it goes
                yield DeliveryMessage(deliveries=deliveries, catalogue=catalogue, draining=self._leaving)
                if self._leaving and not len(link.outbox):
                    return
        finally:
            reader.cancel()
            if self._links.get(join.gateway_id) is link:
                del self._links[join.gateway_id]
            log.info("gateway.left", gateway=join.gateway_id)

    async def _read(self, link: GatewayLink, messages: AsyncIterator[GatewayMessage]) -> None:
        """Later joins tell of more streams: the rest of a long list, or those that lost another router."""
        async for message in messages:
            if message.join is not None:
                self._told(link, message.join.held)

    def _told(self, link: GatewayLink, held: Iterable[HeldStream]) -> None:
        for stream in held:
            if stream.request_id not in link.in_step and len(link.held) < MAX_HELD:
                link.held[stream.request_id] = stream
        if link.held:
            self._on_held(link)
