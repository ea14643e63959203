"""That the broker has read what was sent."""

from __future__ import annotations

from nats.aio.client import Client


async def flushed(nc: Client) -> None:
    """Returns when the broker has read all that was sent on this connection before.

    The client sends the ping of a flush ahead of what it still buffers. The first one has the buffer written; the
    second comes after it. Raises nats.errors.Error where the broker answers none within the library's ten seconds.
    """
    for _ in range(2):
        await nc.flush()
