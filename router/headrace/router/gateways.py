"""The gateways' `Deliver` streams: who holds which client, and what is sent to whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import structlog

from headrace.contract.deliver import DeliveryMessage, GatewayMessage, HeldStream, ModelLoad
from headrace.contract.errors import MalformedMessage
from headrace.contract.subjects import is_name
from headrace.contract.values import Outcome, QueuePosition, TokenChunk
from headrace.router.gateway_link import GatewayLink
from headrace.router.ledger import Record

log = structlog.get_logger(__name__)


class Gateways:
    """The links, by gateway. A gateway that is away gets what it missed when it joins again."""

    def __init__(self, router_id: str) -> None:
        self._router_id = router_id
        self._links: dict[str, GatewayLink] = {}
        self._joined: dict[str, asyncio.Future[None]] = {}
        """For those who wait for a gateway to join."""
        self._catalogue: tuple[ModelLoad, ...] = ()
        self._on_held: Callable[[GatewayLink, tuple[str, ...]], None] = lambda link, request_ids: None
        self._on_left: Callable[[str, tuple[str, ...]], None] = lambda gateway_id, request_ids: None
        self._leaving = False

    def __len__(self) -> int:
        return len(self._links)

    @property
    def pending(self) -> int:
        """Requests of which something waits to be sent, counted for each gateway."""
        return sum(len(link.outbox) for link in self._links.values())

    def on_told(
        self,
        held: Callable[[GatewayLink, tuple[str, ...]], None],
        left: Callable[[str, tuple[str, ...]], None],
    ) -> None:
        """`held` is called with the requests that a gateway told of, `left` with those that nobody waits for there."""
        self._on_held, self._on_left = held, left

    # One request's readers.

    def holders(self, record: Record) -> set[str]:
        """The gateways that told of a client of this request."""
        return {gateway_id for gateway_id in self._links if self.held(gateway_id, record) is not None}

    def follow_elsewhere(self, tenant: str, request_id: str, gateway_id: str) -> bool:
        """Whether another gateway than that one told of a client of a request, be it held here or not."""
        return any(
            (held := link.held.get(request_id)) is not None and held.tenant == tenant
            for other, link in self._links.items()
            if other != gateway_id
        )

    def held(self, gateway_id: str, record: Record) -> HeldStream | None:
        """What a gateway told of a client of this request."""
        link = self._links.get(gateway_id)
        held = None if link is None else link.held.get(record.id)
        return held if held is not None and held.tenant == record.tenant else None

    async def recall(self, gateway_id: str, record: Record) -> HeldStream | None:
        """What the clients of a gateway have of a request; None where none waits. Waits for the gateway to join, and
        for its answer, until it is cancelled.
        """
        while True:
            link = self._links.get(gateway_id)
            if link is None:
                await self._join_of(gateway_id)
                continue
            try:
                return await link.recall(record.id, record.tenant)
            except ConnectionResetError:
                continue

    async def _join_of(self, gateway_id: str) -> None:
        joined = self._joined.get(gateway_id)
        if joined is None:
            joined = self._joined[gateway_id] = asyncio.get_running_loop().create_future()
        await asyncio.shield(joined)

    def begin(self, record: Record) -> None:
        """A request starts that no client has anything of, as far as its gateways did not tell."""
        for gateway_id in record.followers:
            if (link := self._links.get(gateway_id)) is not None:
                link.begin(record.id)

    def greet(self, record: Record, place: QueuePosition) -> None:
        """Lets its followers that have nothing of a request know that it is here."""
        for gateway_id in record.followers:
            if (link := self._links.get(gateway_id)) is not None:
                link.greet(record, place)

    def queued(self, record: Record, place: QueuePosition) -> None:
        """Tells its followers a new place in the queue."""
        for gateway_id in record.followers:
            if (link := self._links.get(gateway_id)) is not None:
                link.queued(record, place)

    def bring_in_step(self, record: Record) -> None:
        """Sends its followers what they miss of a request."""
        for gateway_id in record.followers:
            if (link := self._links.get(gateway_id)) is not None:
                link.bring_in_step(record)

    def tokens(self, record: Record, chunk: TokenChunk) -> None:
        for gateway_id in record.followers:
            if (link := self._links.get(gateway_id)) is not None:
                link.tokens(record, chunk)

    def finished(self, record: Record, outcome: Outcome) -> None:
        """Sends the end to whoever follows the request or told of it."""
        for gateway_id in record.followers | self.holders(record):
            if (link := self._links.get(gateway_id)) is not None:
                link.finished(outcome, outcome.output)

    def refused(self, gateway_id: str, outcome: Outcome) -> None:
        """Tells one gateway that what it asked for under a request's id is refused."""
        if (link := self._links.get(gateway_id)) is not None:
            link.outbox.finished(outcome.request_id, outcome)

    def hand_on(self, record: Record) -> None:
        """The next tokens of a request come from another router: what waits here is still sent."""
        for link in self._links.values():
            link.in_step.discard(record.id)

    def forget(self, record: Record) -> None:
        """Sends nothing more of a request: it is another router's."""
        for link in self._links.values():
            link.forget(record.id)

    # All of them.

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
        if first is None or first.join is None or not is_name(first.join.gateway_id):
            raise MalformedMessage("GatewayMessage.join", "must come first, with a gateway_id that is a name")
        link = self._join(first.join.gateway_id)
        self._told(link, first)
        log.info("gateway.joined", gateway=link.gateway_id, held=len(link.held))
        reader = asyncio.create_task(self._read(link, messages), name=f"gateway {link.gateway_id}: read")
        reader.add_done_callback(lambda _: link.outbox.wake())
        try:
            yield DeliveryMessage(welcome=self._router_id)
            while True:
                sending = await link.outbox.take()
                if reader.done():
                    reader.result()  # raises where it makes no sense
                    return  # it told that it goes
                yield DeliveryMessage(
                    deliveries=sending.deliveries,
                    catalogue=sending.catalogue,
                    recall=sending.recall,
                    draining=self._leaving,
                )
                if self._leaving and not len(link.outbox):
                    return
        finally:
            reader.cancel()
            self._part(link)

    def _join(self, gateway_id: str) -> GatewayLink:
        if (old := self._links.get(gateway_id)) is not None:
            self._part(old)  # it gave that one up
        link = self._links[gateway_id] = GatewayLink(gateway_id)
        link.outbox.catalogue(self._catalogue)
        if (joined := self._joined.pop(gateway_id, None)) is not None and not joined.done():
            joined.set_result(None)
        return link

    def _part(self, link: GatewayLink) -> None:
        link.broken()
        if self._links.get(link.gateway_id) is link:
            del self._links[link.gateway_id]
            log.info("gateway.left", gateway=link.gateway_id)

    async def _read(self, link: GatewayLink, messages: AsyncIterator[GatewayMessage]) -> None:
        """Later messages tell of more streams: the rest of a long list, new ones, those that lost another router."""
        async for message in messages:
            self._told(link, message)

    def _told(self, link: GatewayLink, message: GatewayMessage) -> None:
        if message.join is not None and message.join.held:
            link.told(message.join.held)
            self._on_held(link, tuple(stream.request_id for stream in message.join.held))
        if message.left:
            link.left(message.left)
            self._on_left(link.gateway_id, message.left)
