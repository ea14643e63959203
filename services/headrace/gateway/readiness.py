"""Whether this gateway can serve, as grpc.health.v1 tells it."""

from __future__ import annotations

import asyncio

from headrace.gateway.catalogue import Catalogue
from headrace.runtime.grpc_server import GrpcServer
from headrace.runtime.nats_state import BROKER_HEALTH, NatsHealth


class Readiness:
    """Serving means: NATS is connected, at least one router is, and this gateway is not stopping.

    Told as the status of the service and of the server as a whole (""), which is what load balancers ask for. How the
    broker is, is told apart from it: a gateway whose broker takes nothing new still answers for what it took.
    Writers: `drain` alone writes `draining`.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self.nats = NatsHealth(self.changed)
        self.catalogue = Catalogue(self.changed)
        self.draining = False

    def __repr__(self) -> str:
        return (
            f"<Readiness {'serving' if self.serving else 'not serving'}: {self.nats!r}, {self.catalogue!r}>"
        )

    @property
    def serving(self) -> bool:
        return self.nats.connected and self.catalogue.connected and not self.draining

    def changed(self) -> None:
        """Something that it rests on may be another."""
        self._changed.set()

    def drain(self) -> None:
        """No more requests are taken."""
        self.draining = True
        self.changed()

    async def report(self, server: GrpcServer, service: str) -> None:
        """Keeps the server's health at what it is, until cancelled."""
        while True:
            self._changed.clear()
            for name in ("", service):
                await server.set_serving(name, self.serving)
            await server.set_serving(BROKER_HEALTH, self.nats.sound)
            await self._changed.wait()
