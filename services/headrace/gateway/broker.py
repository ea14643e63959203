"""What every call to the broker needs: a connection before it, and an error of ours after it."""

from __future__ import annotations

from nats.aio.client import Client

from headrace.contract.errors import Unavailable


def require_connection(nc: Client) -> None:
    """Raises Unavailable where there is no connection now.

    The client library would keep what is sent, and send it when nobody waits for it any more.
    """
    if not nc.is_connected:
        raise Unavailable("NATS", "the connection is down; it is being tried again")


def unanswered(error: Exception) -> Unavailable:
    """What a failed call means for the caller, in words without content."""
    if isinstance(error, TimeoutError):
        return Unavailable("NATS", "no answer in time; try again")
    return Unavailable("NATS", f"the call failed ({type(error).__name__}); try again")
