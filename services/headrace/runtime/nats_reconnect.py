"""nats-py's client, with an end for each connection: none outlives the moment it is given up."""

from __future__ import annotations

import asyncio

from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from nats.errors import ConnectionReconnectingError


class ReconnectingClient(Client):
    """A Client that drops a connection that it gives up at once, with all that waits for it.

    The library closes it politely: it waits until everything is sent, or until TLS has said goodbye. On a network that
    swallows packets neither happens for a quarter of an hour, and so long it would not even try to connect anew. And it
    leaves requests waiting, up to their timeouts, for answers that went to the old connection.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lost_by: Exception | None = None
        """Why the last connection was given up."""

    async def _process_op_err(self, e: Exception) -> None:
        if not self.is_closed and not self.is_reconnecting:
            self.lost_by = e
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

    def fail_requests(self) -> None:
        """Each caller learns now that nobody knows what became of its request."""
        for waiting in list(self._resp_map.values()):
            if not waiting.done():
                waiting.set_exception(ConnectionReconnectingError())
