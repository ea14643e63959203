"""The clients that wait for tokens here, by request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from headrace.contract.deliver import Delivery, Recall
from headrace.contract.errors import DuplicateRequest, Overloaded, Unavailable
from headrace.gateway.audience import Audience, Stream

RETRY_AFTER_S = 1.0
"""When one of many streams has probably ended."""

MAX_KEPT = 1_000
"""Requests that go on without a client, and of which is kept what theirs had. When there are more, the one whose client
left first is forgotten: a router that takes it over may begin it anew.
"""


class Streams:
    """All of them, at most `limit`: a further one is refused as overloaded.

    An id is one tenant's at a time: a delivery names the id alone. A request that goes on without its client is
    followed until its outcome: a router that takes it over is to go on from what its client has read.

    Writers: `open` adds and removes; the routers' links deliver and recall.
    """

    def __init__(
        self, limit: int, on_departed: Callable[[Audience, bool], None] = lambda audience, over: None
    ) -> None:
        """`on_departed` is called when the last client of a request has left, with whether its outcome had arrived."""
        self._limit = limit
        self._on_departed = on_departed
        self._audiences: dict[str, Audience] = {}
        self._kept: dict[str, Audience] = {}
        """Those with a stream whose client is gone; the one that left first comes first."""
        self._open = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return self._open

    def __repr__(self) -> str:
        return f"<Streams {self._open} of {self._limit}, of {len(self._audiences)} requests>"

    @contextmanager
    def open(self, tenant: str, request_id: str, first_index: int = 0) -> Iterator[Stream]:
        """A stream for as long as the block runs, with what other clients of the request have already.

        Raises Overloaded, and DuplicateRequest where the id is another tenant's here.
        """
        if self._open >= self._limit:
            raise Overloaded(f"all {self._limit} streams of this gateway are in use", RETRY_AFTER_S)
        audience = self._audiences.get(request_id)
        if audience is None:
            audience = self._audiences[request_id] = Audience(request_id, tenant, self._forget)
        elif audience.tenant != tenant:
            raise DuplicateRequest(request_id)
        stream = audience.join(first_index)
        self._open += 1
        self._empty.clear()
        try:
            yield stream
        finally:
            self._leave(stream)

    def _leave(self, stream: Stream) -> None:
        audience = stream.audience
        over = audience.ended
        audience.streams.remove(stream)
        self._open -= 1
        if not audience.streams:
            if audience.kept and not (over or stream.cut or stream.relay.first_index):
                self._keep(stream)
            else:
                self._depart(audience, over)
        if not self._open:
            self._empty.set()

    def _keep(self, stream: Stream) -> None:
        """Follows a request without its client."""
        stream.gone = True
        stream.relay.leave()
        stream.audience.streams.append(stream)
        self._kept[stream.request_id] = stream.audience
        if len(self._kept) > MAX_KEPT:
            self._forget(next(iter(self._kept.values())))

    def _forget(self, audience: Audience) -> None:
        """Follows a request no more, unless a client here does."""
        if self._kept.pop(audience.request_id, None) is None:
            return
        over = audience.ended
        audience.streams[:] = [stream for stream in audience.streams if not stream.gone]
        if not audience.streams:
            self._depart(audience, over)

    def _depart(self, audience: Audience, over: bool) -> None:
        del self._audiences[audience.request_id]
        self._on_departed(audience, over)

    def find(self, tenant: str, request_id: str) -> Audience | None:
        """The clients of that request, if there are some here."""
        audience = self._audiences.get(request_id)
        return audience if audience is not None and audience.tenant == tenant else None

    def deliver(self, router_id: str, delivery: Delivery) -> None:
        """Hands a router's delivery to the clients. One for clients that have left is dropped."""
        audience = self._audiences.get(delivery.request_id)
        if audience is not None:
            audience.take(router_id, delivery)

    def recalled(self, router_id: str, recall: Recall) -> None:
        """A router goes on with a request: from now on its tokens count, and no other's."""
        audience = self.find(recall.tenant, recall.request_id)
        if audience is not None:
            audience.recalled_by(router_id)

    def waiting(self) -> tuple[Audience, ...]:
        """Those whose outcome has not arrived."""
        return tuple(audience for audience in self._audiences.values() if not audience.ended)

    def orphaned_by(self, router_id: str) -> tuple[Audience, ...]:
        """Those that the lost router served or may have held: another has to go on with them."""
        orphans = tuple(audience for audience in self.waiting() if audience.router in ("", router_id))
        for audience in orphans:
            audience.orphan()
        return orphans

    def cut(self) -> int:
        """Ends those whose outcome has not arrived, with the word where to go on. Gives how many there were."""
        streams = [stream for audience in self.waiting() for stream in audience.streams if not stream.gone]
        for stream in streams:
            stream.cut = True
            problem = f"it is stopping; attach to {stream.request_id} at another one"
            stream.relay.fail(Unavailable("gateway", problem))
            stream.audience.served.set()  # wakes those who wait for a router
        return len(streams)

    async def wait_empty(self) -> None:
        """Returns when no client is left."""
        await self._empty.wait()
