"""The gateways' `Deliver` streams: who holds which client, and what waits to be sent to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import structlog

from headrace.contract.deliver import DeliveryMessage, GatewayJoin, HeldStream, ModelLoad
from headrace.contract.values import Outcome, TokenChunk
from headrace.router.outbox import Outbox

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class GatewayLink:
    """One gateway's open stream. `held` shrinks as its requests are taken over or answered."""

    gateway_id: str
    held: dict[str, HeldStream]
    outbox: Outbox = field(default_factory=Outbox)


class Gateways:
    """The links, by gateway. A gateway that is away gets what it missed when it joins again."""

    def __init__(self, router_id: str) -> None:
        self._router_id = router_id
        self._links: dict[str, GatewayLink] = {}
        self._catalogue: tuple[ModelLoad, ...] = ()
        self._on_join: Callable[[GatewayLink], None] = lambda link: None
        self._leaving = asyncio.Event()

    def __len__(self) -> int:
        return len(self._links)

    def on_join(self, act: Callable[[GatewayLink], None]) -> None:
        """`act` is called with each new link, before anything else is sent on it."""
        self._on_join = act

    def held_by_client(self, gateway_id: str, request_id: str) -> HeldStream | None:
        """What the gateway's client has of a request already, if the gateway said so when it joined."""
        link = self._links.get(gateway_id)
        return None if link is None else link.held.pop(request_id, None)

    def tokens(self, gateway_id: str, request_id: str, chunk: TokenChunk) -> None:
        if (link := self._links.get(gateway_id)) is not None:
            link.outbox.tokens(request_id, chunk)

    def finished(self, gateway_id: str, request_id: str, outcome: Outcome) -> None:
        if (link := self._links.get(gateway_id)) is not None:
            link.outbox.finished(request_id, outcome)

    def catalogue(self, models: tuple[ModelLoad, ...]) -> None:
        """Tells every gateway, where it changed."""
        if models != self._catalogue:
            self._catalogue = models
            for link in self._links.values():
                link.outbox.catalogue(models)

    def leave(self) -> None:
        """Tells every gateway that this router goes, and ends the streams when all is sent."""
        self._leaving.set()
        for link in self._links.values():
            link.outbox.catalogue(())

    async def serve(self, join: GatewayJoin) -> AsyncIterator[DeliveryMessage]:
        """The messages for one gateway, until it goes or this router does."""
        link = GatewayLink(join.gateway_id, {held.request_id: held for held in join.held})
        self._links[join.gateway_id] = link  # a stream that the gateway gave up is replaced
        self._on_join(link)
        log.info("gateway.joined", gateway=join.gateway_id, held=len(link.held))
        try:
            yield DeliveryMessage(welcome=self._router_id, catalogue=self._catalogue)
            while not self._leaving.is_set():
                deliveries, catalogue = await link.outbox.take()
                yield DeliveryMessage(
                    deliveries=deliveries, catalogue=catalogue, draining=self._leaving.is_set()
                )
        finally:
            if self._links.get(join.gateway_id) is link:
                del self._links[join.gateway_id]
            log.info("gateway.left", gateway=join.gateway_id)
