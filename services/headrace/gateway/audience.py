"""The clients here of one request, and what they have of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import structlog

from headrace.contract.deliver import Delivery, HeldStream
from headrace.contract.values import Outcome, OutcomeKind
from headrace.gateway.relay import Relay

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Stream:
    """One client."""

    audience: Audience
    relay: Relay
    leads: bool
    """Whether it wants more than the clients that were here before: routers have to be told of it."""
    gone: bool = False
    """Whether the client has left, and what it had is kept for a router that may have to go on from there."""
    cut: bool = False
    """Whether this gateway ends it before its outcome, because it is stopping."""

    @property
    def request_id(self) -> str:
        return self.audience.request_id

    @property
    def tenant(self) -> str:
        return self.audience.tenant

    def end(self, whole: Outcome) -> None:
        """Gives the client the rest of a durable outcome, and its end."""
        if (rest := self.relay.rest_of(whole)) is not None:
            self.relay.push(rest)
        self.relay.finish(whole)


@dataclass(slots=True, eq=False)
class Audience:
    """All clients here of one request.

    Invariant: a stream that begins at a lower index has received at most as far as one that begins at a higher index,
    so that what the lowest lacks is all that a router has to send.
    """

    request_id: str
    tenant: str
    on_over: Callable[[Audience], None] = lambda audience: None
    """Called when its outcome has come."""
    fingerprint: str = ""
    """Of what is asked for; "" = no client here said."""
    streams: list[Stream] = field(default_factory=list)
    router: str = ""
    """The owner, the one whose tokens count: the first that delivered, then who recalled it. "" = none yet, or it was
    lost. What another one sends is from before it lost the request."""
    model: str = ""
    """The version that makes its tokens, where an alias was asked for and its router has told."""
    known: bool = False
    """Whether there is such a request: the broker, a router or an outcome has said so."""
    served: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while a router is known to have the request, and when its outcome has come."""
    over: bool = False
    """Whether its outcome has come."""
    told: bool = False
    """Whether routers were told of it: then they are told when it has left, too."""
    kept: bool = False
    """Whether the request is to go on though nobody waits for it."""
    forsaken: OutcomeKind | None = None
    """How it is to end else when the last client leaves before its outcome; None = no client has asked that it ends
    with its call.
    """

    @property
    def ended(self) -> bool:
        """Whether the outcome has arrived for every client, or all have left."""
        return all(stream.relay.ended for stream in self.streams)

    @property
    def held(self) -> HeldStream:
        """What a router needs to know to go on with it: what the client that begins first has."""
        relay = min((stream.relay for stream in self.streams), key=lambda relay: relay.first_index)
        held = HeldStream(
            request_id=self.request_id,
            tenant=self.tenant,
            first_index=relay.first_index,
            model=self.model,
        )
        if (output := relay.output) is None:
            return held
        return replace(held, token_ids=output.token_ids, text=output.text, text_lengths=output.text_lengths)

    def join(self, first_index: int) -> Stream:
        """A further client, with what others here have already of what it wants."""
        earlier = [stream.relay for stream in self.streams if stream.relay.first_index <= first_index]
        stream = Stream(self, Relay(first_index), leads=not earlier)
        if earlier:
            output = max(earlier, key=lambda relay: relay.next_index).output
            if output is not None:
                stream.relay.push(output)
        self.streams.append(stream)
        return stream

    def take(self, router_id: str, delivery: Delivery) -> None:
        """A router's delivery for the clients. Tokens and places count from the owner alone; an end from anyone, for it
        is durable.
        """
        if delivery.tokens is not None or delivery.queued is not None:
            self.router = self.router or router_id
            if self.router == router_id:
                self.model = delivery.model or self.model
                self._hand_out(delivery)
                self._is_served()
        if delivery.finished is not None:
            for stream in self.streams:
                stream.relay.finish(delivery.finished)
            self._is_over()

    def _hand_out(self, delivery: Delivery) -> None:
        for stream in self.streams:
            if delivery.queued is not None:
                stream.relay.queued(delivery.queued)
            if delivery.tokens is not None and not stream.relay.push(delivery.tokens):
                log.warning(  # the durable outcome will fill the gap
                    "stream.gap",
                    request_id=self.request_id,
                    router=self.router,
                    first_index=delivery.tokens.first_index,
                    next_index=stream.relay.next_index,
                )

    def end(self, whole: Outcome) -> None:
        """Gives all clients the rest of a durable outcome, and its end."""
        for stream in self.streams:
            stream.end(whole)
        self._is_over()

    def recalled_by(self, router_id: str) -> None:
        """A router goes on with the request: from now on its tokens count, and no other's."""
        self.router = router_id
        self._is_served()

    def orphan(self) -> None:
        """Its router was lost: the next one that delivers is the owner."""
        self.router = ""
        if not self.over:
            self.served.clear()

    def _is_over(self) -> None:
        self.over = True
        self._is_served()
        self.on_over(self)

    def _is_served(self) -> None:
        self.known = True
        self.served.set()


def pieces(audiences: Iterable[Audience], tokens: int) -> Iterator[tuple[HeldStream, ...]]:
    """What a router has to know of `audiences`, in pieces of about that many tokens: a message has a largest size.

    The first piece is always there, if empty.
    """
    piece: list[HeldStream] = []
    size = 0
    for audience in audiences:
        if audience.ended:
            continue  # since the piece before was sent
        held = audience.held
        if piece and size + len(held.token_ids) > tokens:
            yield tuple(piece)
            piece, size = [], 0
        piece.append(held)
        size += len(held.token_ids)
    yield tuple(piece)
