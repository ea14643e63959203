"""What one router is still to be told: for which requests clients wait here, and for which none does any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from headrace.contract.deliver import GatewayJoin, GatewayMessage
from headrace.gateway.audience import pieces
from headrace.gateway.streams import Streams

TOKENS_PER_JOIN = 200_000
"""Tokens of held streams in one message: with their text about 2 MB, well below the largest message."""
LEFT_PER_MESSAGE = 10_000
"""Ids of requests that nobody waits for in one message: some hundred kB."""


class Words:
    """The requests to tell of. What there is to tell is looked up when it is told, so a request is in here once.

    Bounded by `limit`: beyond it `add` says no, and the router's stream is to be ended. One that reads so little is as
    good as lost, and is told everything when it is joined anew.
    """

    def __init__(self, gateway_id: str, streams: Streams, *, limit: int) -> None:
        self._gateway_id = gateway_id
        self._streams = streams
        self._limit = limit
        self._tenants: dict[str, str] = {}
        """By request id, in the order in which they are to be told."""
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._tenants)

    def add(self, tenant: str, request_id: str) -> bool:
        """The router is to be told of this request, as it then is. False where there is no room."""
        if len(self._tenants) >= self._limit and request_id not in self._tenants:
            return False
        self._tenants[request_id] = tenant
        self._some.set()
        return True

    def everything(self) -> Iterator[GatewayMessage]:
        """All that a router has to know when it is joined; what was to be told before is among it."""
        self._tenants.clear()
        waiting = self._streams.waiting()
        for audience in waiting:
            audience.told = True
        for held in pieces(waiting, TOKENS_PER_JOIN):
            yield GatewayMessage(join=GatewayJoin(gateway_id=self._gateway_id, held=held))

    async def take(self) -> list[GatewayMessage]:
        """Waits for something to tell, and gives all there is."""
        while not self._tenants:
            self._some.clear()
            await self._some.wait()
        tenants, self._tenants = self._tenants, {}
        waiting, left = [], []
        for request_id, tenant in tenants.items():
            audience = self._streams.find(tenant, request_id)
            if audience is None or audience.ended:
                left.append(request_id)
            else:
                audience.told = True
                waiting.append(audience)
        messages = [
            GatewayMessage(left=tuple(left[begin : begin + LEFT_PER_MESSAGE]))
            for begin in range(0, len(left), LEFT_PER_MESSAGE)
        ]
        if waiting:
            messages += [
                GatewayMessage(join=GatewayJoin(gateway_id=self._gateway_id, held=held))
                for held in pieces(waiting, TOKENS_PER_JOIN)
            ]
        return messages
