"""What waits to be sent to one receiver: everything that is ready goes in one message, and nothing waits for more."""

from __future__ import annotations

import asyncio

from headrace.contract.deliver import Delivery, ModelLoad
from headrace.contract.values import Outcome, TokenChunk

MAX_BYTES = 4 * 1024 * 1024
"""Of one message, and one delivery more: well below what gRPC takes, also after a receiver has stalled for long."""
TOKEN_BYTES = 8
"""A token's id, and the length of its text."""
OTHER_BYTES = 512
"""Of a delivery without its tokens: its id, and how the request ended."""


class Outbox:
    """Deliveries to one gateway, or to NATS; joined per request while the receiver is slow.

    Bounded by what it is made of: at most one delivery per held request, whose tokens are at most its max_tokens.
    A receiver that stalls therefore costs what its requests' outputs cost, and stalls nobody else.
    """

    def __init__(self) -> None:
        self._deliveries: dict[str, Delivery] = {}
        self._catalogue: tuple[ModelLoad, ...] | None = None
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        return len(self._deliveries)

    def tokens(self, request_id: str, chunk: TokenChunk) -> None:
        """Adds the next tokens of a request."""
        waiting = self._deliveries.get(request_id)
        if waiting is not None and waiting.tokens is not None:
            chunk = waiting.tokens.joined(chunk)
        self._deliveries[request_id] = Delivery(request_id=request_id, tokens=chunk)
        self._ready.set()

    def finished(self, request_id: str, outcome: Outcome) -> None:
        """Adds the end of a request, after its tokens."""
        waiting = self._deliveries.get(request_id)
        tokens = None if waiting is None else waiting.tokens
        self._deliveries[request_id] = Delivery(request_id=request_id, tokens=tokens, finished=outcome)
        self._ready.set()

    def forget(self, request_id: str) -> None:
        """Drops what waits for a request."""
        self._deliveries.pop(request_id, None)

    def catalogue(self, models: tuple[ModelLoad, ...]) -> None:
        """Replaces the catalogue that waits to be sent."""
        self._catalogue = models
        self._ready.set()

    def wake(self) -> None:
        """Makes `take` return, if with nothing."""
        self._ready.set()

    async def take(self) -> tuple[tuple[Delivery, ...], tuple[ModelLoad, ...] | None]:
        """Waits until something is there, then gives all of it, up to what a message has room for."""
        await self._ready.wait()
        self._ready.clear()
        deliveries: list[Delivery] = []
        room = MAX_BYTES
        while self._deliveries and room > 0:
            delivery = self._deliveries.pop(next(iter(self._deliveries)))
            deliveries.append(delivery)
            room -= _size(delivery)
        if self._deliveries:
            self._ready.set()
        catalogue, self._catalogue = self._catalogue, None
        return tuple(deliveries), catalogue


def _size(delivery: Delivery) -> int:
    """About its bytes in a message, rather more than fewer."""
    chunk = delivery.tokens
    return OTHER_BYTES + (0 if chunk is None else TOKEN_BYTES * len(chunk.token_ids) + 4 * len(chunk.text))
