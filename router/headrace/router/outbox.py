"""What waits to be sent to one receiver: everything that is ready goes in one message, and nothing waits for more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from headrace.contract.deliver import Delivery, ModelLoad, Recall
from headrace.contract.values import Outcome, QueuePosition, TokenChunk

MAX_BYTES = 4 * 1024 * 1024
"""Of one message, and one delivery more: well below what gRPC takes, also after a receiver has stalled for long."""
TOKEN_BYTES = 8
"""A token's id, and the length of its text."""
OTHER_BYTES = 512
"""Of a delivery without its tokens: its id, and how the request ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """All that waited."""

    deliveries: tuple[Delivery, ...]
    catalogue: tuple[ModelLoad, ...] | None
    recall: tuple[Recall, ...]


class Outbox:
    """Deliveries to one gateway, or to NATS; joined per request while the receiver is slow.

    Bounded by what it is made of: at most one delivery and one recall per held request, and the delivery's tokens are
    at most the request's max_tokens. A receiver that stalls therefore costs what its requests' outputs cost, and
    stalls nobody else.
    """

    def __init__(self) -> None:
        self._deliveries: dict[str, Delivery] = {}
        self._catalogue: tuple[ModelLoad, ...] | None = None
        self._recall: dict[str, Recall] = {}
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        return len(self._deliveries)

    def tokens(self, request_id: str, chunk: TokenChunk, model: str = "") -> None:
        """Adds the next tokens of a request; `model` is the version that makes them, where that is news."""
        waiting = self._deliveries.get(request_id)
        if waiting is not None and waiting.tokens is not None:
            chunk = waiting.tokens.joined(chunk)
            model = model or waiting.model
        self._deliveries[request_id] = Delivery(request_id=request_id, tokens=chunk, model=model)
        self._ready.set()

    def queued(self, request_id: str, position: QueuePosition) -> None:
        """Adds a place in the queue, in the stead of an earlier one, unless there are tokens."""
        waiting = self._deliveries.get(request_id)
        if waiting is None or waiting.queued is not None:
            self._deliveries[request_id] = Delivery(request_id=request_id, queued=position)
            self._ready.set()

    def finished(self, request_id: str, outcome: Outcome) -> None:
        """Adds the end of a request, after its tokens."""
        waiting = self._deliveries.get(request_id)
        tokens, model = (None, "") if waiting is None else (waiting.tokens, waiting.model)
        self._deliveries[request_id] = Delivery(
            request_id=request_id, tokens=tokens, finished=outcome, model=model
        )
        self._ready.set()

    def put_back(self, delivery: Delivery) -> None:
        """Adds what was taken and could not be sent. Nothing else waits for that request."""
        self._deliveries[delivery.request_id] = delivery
        self._ready.set()

    def forget(self, request_id: str) -> Delivery | None:
        """Drops what waits for a request; gives it, for who sends it out of turn."""
        return self._deliveries.pop(request_id, None)

    def forget_tokens(self, request_id: str) -> None:
        """Drops the tokens that wait for a request: they are sent anew. Its end stays."""
        waiting = self._deliveries.pop(request_id, None)
        if waiting is not None and waiting.finished is not None:
            self._deliveries[request_id] = replace(waiting, tokens=None)

    def catalogue(self, models: tuple[ModelLoad, ...]) -> None:
        """Replaces the catalogue that waits to be sent."""
        self._catalogue = models
        self._ready.set()

    def recall(self, recall: Recall) -> None:
        """Adds a question."""
        self._recall[recall.request_id] = recall
        self._ready.set()

    def wake(self) -> None:
        """Makes `take` return, if with nothing."""
        self._ready.set()

    async def take(self) -> Sending:
        """Waits until something is there, then gives all of it, up to what a message has room for."""
        await self._ready.wait()
        self._ready.clear()
        sending = Sending(
            deliveries=self._take_deliveries(), catalogue=self._catalogue, recall=tuple(self._recall.values())
        )
        self._catalogue, self._recall = None, {}
        return sending

    def _take_deliveries(self) -> tuple[Delivery, ...]:
        waiting, self._deliveries = tuple(self._deliveries.values()), {}
        room = MAX_BYTES
        for count, delivery in enumerate(waiting, start=1):
            room -= _size(delivery)
            if room <= 0 and count < len(waiting):
                self._deliveries = {later.request_id: later for later in waiting[count:]}
                self._ready.set()
                return waiting[:count]
        return waiting


def _size(delivery: Delivery) -> int:
    """About its bytes in a message, rather more than fewer."""
    chunk, end = delivery.tokens, delivery.finished
    vectors = 0 if end is None else sum(map(len, end.vectors))
    return (
        OTHER_BYTES
        + vectors
        + (0 if chunk is None else TOKEN_BYTES * len(chunk.token_ids) + 4 * len(chunk.text))
    )
