"""That the broker has read what was sent."""

from __future__ import annotations

from nats.aio.client import Client

LIMIT_S = 10
"""For a broker that answers within milliseconds, or is in trouble."""


async def flushed(nc: Client, limit_s: int = LIMIT_S) -> None:
    """Returns when the broker has read all that was sent on this connection before.

    The client sends the ping of a flush ahead of what it still buffers. The first one has the buffer written; the
    second comes after it. Raises nats.errors.Error where the broker does not answer each within `limit_s`, a whole
    number from 1 on.
    """
    for _ in range(2):
        await nc.flush(limit_s)
