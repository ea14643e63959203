"""The console, put together."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import structlog
import uvicorn
from nats.aio.client import Client
from starlette.types import ASGIApp

from headrace.console.access import Operators, is_loopback
from headrace.console.feed import Feed
from headrace.console.live import Live
from headrace.console.picture import Picture
from headrace.console.site import Site
from headrace.console.traces import Traces
from headrace.contract.errors import StartError, Unavailable
from headrace.runtime import metric_names as names
from headrace.runtime.metrics import Metrics
from headrace.runtime.metrics_start import exported_metrics
from headrace.runtime.nats_connection import connect
from headrace.runtime.nats_state import NatsHealth
from headrace.runtime.process_figures import watch_nats
from headrace.runtime.settings import ConsoleSettings, Settings
from headrace.runtime.shutdown import Shutdown

log = structlog.get_logger(__name__)

LEAVE_S = 2
"""How long answers that are being given get to end; streams end at once."""
MORE_CONNECTIONS = 64
"""Beyond the streams: for files and for what is asked in between."""


async def run(settings: Settings, shutdown: Shutdown) -> None:
    """Serves until `shutdown` is requested. Raises a HeadraceError where it cannot start."""
    own, health = settings.console, NatsHealth()
    with _listening(own) as listener:
        async with exported_metrics("console", "", settings.metrics) as metrics:
            connecting = connect(settings.nats, "headrace-console", health.record)
            connection = await shutdown.unless_requested(connecting.__aenter__())
            if connection is None:
                return
            watch_nats(metrics, health, connection)
            try:
                await _serve(settings, connection, health, listener, shutdown, metrics)
            finally:
                await connecting.__aexit__(None, None, None)


async def _serve(
    settings: Settings,
    nc: Client,
    health: NatsHealth,
    listener: socket.socket,
    shutdown: Shutdown,
    metrics: Metrics,
) -> None:
    own, ending = settings.console, asyncio.Event()
    picture = Picture(time.time)
    live = Live(picture)
    operators = Operators(own.token or settings.gateway.admin_token)
    admin = settings.gateway.admin_token
    traces = Traces(picture.gateway_addresses, token=admin.get_secret_value() if admin else "")
    site = Site(live, nc, settings=own, operators=operators, traces=traces, ending=ending)
    metrics.watch(names.PAGES, lambda: {(): site.pages})
    server = _Server(site.app(), max_connections=own.max_clients + MORE_CONNECTIONS)
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(Feed(nc, picture, health).run(), name="console: feed"),
            tasks.create_task(live.run(), name="console: live"),
            tasks.create_task(_end_without_broker(health), name="console: broker"),
        ]
        serving = tasks.create_task(server.serve([listener]), name="console: http")
        log.info("console.ready", url=url_of(own.host, listener), operators=operators.any)
        if not is_loopback(own.host) and not own.hosts:
            log.warning(
                "console.open", remedy="whoever reaches it sees names of models, tenants and machines"
            )
        await shutdown.requested()
        ending.set()
        server.should_exit = True
        await serving
        for task in running:
            task.cancel()


async def _end_without_broker(health: NatsHealth) -> None:
    """Ends the console where the broker refused it for good: whoever keeps it starts it anew."""
    await health.wait_closed()
    raise Unavailable("NATS", health.state.problem or "the connection was closed")


class _Server(uvicorn.Server):
    """Without signal handlers of its own: the process has one for all."""

    def __init__(self, app: ASGIApp, *, max_connections: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                http="h11",
                server_header=False,
                limit_concurrency=max_connections,
                timeout_graceful_shutdown=LEAVE_S,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None."""
        yield


@contextlib.contextmanager
def _listening(own: ConsoleSettings) -> Iterator[socket.socket]:
    """Raises StartError where the port cannot be had."""
    family = socket.AF_INET6 if ":" in own.host else socket.AF_INET
    try:
        listener = socket.create_server((own.host, own.port), family=family, backlog=128)
    except OSError as error:
        raise StartError(
            f"the console cannot listen on {own.host}:{own.port}: {error.strerror or error}",
            "Another one may run there; choose another port with HEADRACE_CONSOLE_PORT",
        ) from None
    with listener:
        listener.setblocking(False)
        yield listener


def url_of(host: str, listener: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{listener.getsockname()[1]}/"
