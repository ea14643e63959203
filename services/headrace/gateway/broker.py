"""What every call to the broker needs: a connection before it, and an error of ours after it."""

from __future__ import annotations

from collections.abc import Mapping

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


def header_size(headers: Mapping[str, str]) -> int:
    """Bytes of a message's headers on the wire."""
    lines = sum(len(name.encode()) + len(value.encode()) + len(": \r\n") for name, value in headers.items())
    return len("NATS/1.0\r\n") + lines + len("\r\n")
