"""The clients that wait for tokens here, by request id."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from headrace.contract.deliver import Delivery, HeldStream
from headrace.contract.errors import DuplicateRequest, Overloaded, Unavailable
from headrace.gateway.relay import Relay

log = structlog.get_logger(__name__)

RETRY_AFTER_S = 1.0
"""When one of many streams has probably ended."""


@dataclass(slots=True, eq=False)
class Stream:
    """One client. `router` is the last one that delivered to it; "" = none yet, or it was lost."""

    request_id: str
    tenant: str
    relay: Relay = field(default_factory=Relay)
    router: str = ""
    cut: bool = False
    """Whether this gateway ends it before its outcome, because it is stopping."""

    @property
    def held(self) -> HeldStream:
        """What a router needs to know to go on with it."""
        return HeldStream(
            request_id=self.request_id,
            tenant=self.tenant,
            token_ids=self.relay.token_ids,
            text=self.relay.text,
        )


class Streams:
    """All of them, at most `limit`: a further one is refused as overloaded.

    Writers: `open` adds and removes; the routers' links deliver.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._streams: dict[str, Stream] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._streams)

    def __repr__(self) -> str:
        return f"<Streams {len(self)} of {self._limit}>"

    @contextmanager
    def open(self, tenant: str, request_id: str) -> Iterator[Stream]:
        """A stream for as long as the block runs. Raises DuplicateRequest where a client here holds that id."""
        if request_id in self._streams:
            raise DuplicateRequest(request_id)
        if len(self._streams) >= self._limit:
            raise Overloaded(f"all {self._limit} streams of this gateway are in use", RETRY_AFTER_S)
        stream = self._streams[request_id] = Stream(request_id, tenant)
        self._empty.clear()
        try:
            yield stream
        finally:
            del self._streams[request_id]
            if not self._streams:
                self._empty.set()

    def get(self, tenant: str, request_id: str) -> Stream | None:
        """The stream of that request, if a client here holds it."""
        stream = self._streams.get(request_id)
        return stream if stream is not None and stream.tenant == tenant else None

    def deliver(self, router_id: str, delivery: Delivery) -> None:
        """Hands a router's delivery to its client. One for a client that has left is dropped."""
        stream = self._streams.get(delivery.request_id)
        if stream is None:
            return
        stream.router = router_id
        if delivery.queued is not None:
            stream.relay.queued(delivery.queued)
        if delivery.tokens is not None and not stream.relay.push(delivery.tokens):
            log.warning(  # the durable outcome will fill the gap
                "stream.gap",
                request_id=delivery.request_id,
                router=router_id,
                first_index=delivery.tokens.first_index,
                next_index=stream.relay.next_index,
            )
        if delivery.finished is not None:
            stream.relay.finish(delivery.finished)

    def waiting(self) -> tuple[Stream, ...]:
        """Those whose outcome has not arrived."""
        return tuple(stream for stream in self._streams.values() if not stream.relay.ended)

    def orphaned_by(self, router_id: str) -> tuple[Stream, ...]:
        """Those that the lost router served or may have held: another has to go on with them."""
        orphans = tuple(stream for stream in self.waiting() if stream.router in ("", router_id))
        for stream in orphans:
            stream.router = ""
        return orphans

    def cut(self) -> int:
        """Ends those whose outcome has not arrived, with the word where to fetch it. Gives how many there were."""
        waiting = self.waiting()
        for stream in waiting:
            stream.cut = True
            problem = f"it is stopping; another one's GetResult will have the outcome of {stream.request_id}"
            stream.relay.fail(Unavailable("gateway", problem))
        return len(waiting)

    async def wait_empty(self) -> None:
        """Returns when no client is left."""
        await self._empty.wait()


def pieces(streams: Iterable[Stream], tokens: int) -> Iterator[tuple[HeldStream, ...]]:
    """What a router has to know of `streams`, in pieces of about that many tokens: a message has a largest size.

    The first piece is always there, if empty.
    """
    piece: list[HeldStream] = []
    size = 0
    for stream in streams:
        held = stream.held
        if piece and size + len(held.token_ids) > tokens:
            yield tuple(piece)
            piece, size = [], 0
        piece.append(held)
        size += len(held.token_ids)
    yield tuple(piece)
