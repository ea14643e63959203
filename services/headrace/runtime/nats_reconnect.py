"""nats-py's client, with an end for each connection: none outlives the moment it is given up."""

from __future__ import annotations

import asyncio

from nats.aio.client import Client
from nats.aio.transport import TcpTransport


class ReconnectingClient(Client):
    """A Client that drops a connection that it gives up at once, with what waits to be sent on it.

    The library closes it politely: it waits until all of that is sent, or until TLS has said goodbye. On a network that
    swallows packets neither happens for a quarter of an hour, and so long it would not even try to connect anew.
    """

    async def _process_op_err(self, e: Exception) -> None:
        if not self.is_closed and not self.is_reconnecting:
            self.drop()
        await super()._process_op_err(e)

    def drop(self) -> None:
        """Ends the connection that is there now, if any, and what reads, writes and pings on it.

        For attempts to connect, too: one that fails after its greeting leaves those tasks, and each would go on pinging
        whatever connection comes next.
        """
        current = asyncio.current_task()
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None and task is not current and not task.done():
                task.cancel()
        transport = self._transport
        if isinstance(transport, TcpTransport) and transport._io_writer is not None:
            transport._io_writer.transport.abort()
