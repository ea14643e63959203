"""A connection to NATS that is there as soon as it can be, and comes back by itself.

    health = NatsHealth()
    async with connect(settings.nats, "router", on_state=health.record) as nc:
        ...

The client library (nats-py) closes for good on most errors that the server reports; `NatsHealth.wait_closed` tells
that, so that the process can end and be started anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client

from headrace.contract.errors import StartError
from headrace.runtime.nats_client import NatsClient
from headrace.runtime.nats_flush import flushed
from headrace.runtime.nats_problem import problem_of
from headrace.runtime.nats_state import Link, StateCallback
from headrace.runtime.nats_watch import LinkWatch, backoff_s
from headrace.runtime.settings import NatsSettings

log = structlog.get_logger(__name__)

# For the last messages to leave at the end: an unreachable server must not hold up a shutdown.
_LEAVE_TIMEOUT_S = 5.0


@contextlib.asynccontextmanager
async def connect(
    settings: NatsSettings, name: str, on_state: StateCallback | None = None
) -> AsyncIterator[Client]:
    """A connected client, shown as `name` in the server's lists.

    Waits for the first connection for as long as it takes, with growing waits and one line of log for each change of
    state; cancel it to stop. Reconnects for ever after. On leaving, what was published is sent and the client closed;
    subscriptions are their owners' to drain. Raises StartError only for settings that can never work.
    """
    watch = LinkWatch(settings, on_state or (lambda state: None))
    options = _options(settings, name, watch)
    nc = await _first_connection(settings, options, watch)
    try:
        yield nc
    finally:
        watch.leaving = True
        await _leave(nc)
        watch.change(Link.CLOSED)


async def _first_connection(settings: NatsSettings, options: dict[str, Any], watch: LinkWatch) -> NatsClient:
    attempt = 0
    while True:
        nc = NatsClient()
        try:
            await nc.connect(**options)
        except (OSError, nats.errors.Error) as error:
            await _discard(nc)
            attempt += 1
            wait_s = backoff_s(settings, attempt)
            watch.not_reachable(problem_of(error), wait_s)
            await asyncio.sleep(wait_s)
        except BaseException:
            await _discard(nc)
            raise
        else:
            watch.first, watch.client = False, nc
            watch.change(Link.CONNECTED)
            return nc


def _options(settings: NatsSettings, name: str, watch: LinkWatch) -> dict[str, Any]:
    """The arguments of `Client.connect`. Raises StartError for what can never work."""
    options: dict[str, Any] = {
        "servers": settings.servers,
        "name": name,
        "connect_timeout": settings.connect_timeout_s,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": settings.reconnect_wait_s,
        "reconnect_to_server_handler": watch.next_server,
        "ping_interval": settings.ping_interval_s,
        # The next ping is due and the last one unanswered: with 2 it would take three intervals to notice.
        "max_outstanding_pings": 1,
        "pending_size": settings.pending_bytes,
        # Without it a publish on a stalled connection waits for ever.
        "flush_timeout": settings.connect_timeout_s,
        "error_cb": watch.on_error,
        "disconnected_cb": watch.on_disconnected,
        "closed_cb": watch.on_closed,
        "reconnected_cb": watch.on_reconnected,
        "user": settings.user,
        "password": settings.password.get_secret_value() if settings.password else None,
        "token": settings.token.get_secret_value() if settings.token else None,
    }
    if settings.creds_file is not None:
        options["user_credentials"] = _credentials(settings.creds_file)
    if settings.tls_ca_file is not None:
        try:
            options["tls"] = ssl.create_default_context(cafile=settings.tls_ca_file)
        except OSError as error:
            raise StartError(f"nats.tls_ca_file {settings.tls_ca_file} cannot be read: {error}") from error
    return options


def _credentials(path: Path) -> Path:
    if importlib.util.find_spec("nkeys") is None:
        raise StartError("nats.creds_file needs the package nkeys", "Install it: pip install nkeys")
    if not path.is_file():
        raise StartError(f"nats.creds_file {path} is no file")
    return path


async def _leave(nc: Client) -> None:
    """Sends what was published and closes, in bounded time."""
    unsent = 0
    with contextlib.suppress(OSError, nats.errors.Error):
        async with asyncio.timeout(_LEAVE_TIMEOUT_S):
            if nc.is_connected:
                await flushed(nc)
            unsent = nc.pending_data_size
    if unsent:
        log.warning("NATS was not reachable at the end; what waited to be sent is lost", unsent_bytes=unsent)
    await _discard(nc)


async def _discard(nc: Client) -> None:
    """Closes the client in whatever state it is, in bounded time. A half-open one may raise anything; it is over."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_LEAVE_TIMEOUT_S):
            await nc.close()
