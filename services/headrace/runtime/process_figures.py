"""What every process tells of itself: CPU, memory, open files, how late its event loop is, how its broker is."""

from __future__ import annotations

import asyncio
import resource

import psutil
import structlog
from nats.aio.client import Client

from headrace.runtime import metric_names as names
from headrace.runtime.metrics import Metrics
from headrace.runtime.nats_state import NatsHealth

log = structlog.get_logger(__name__)

LAG_EVERY_S = 0.1
"""How often the event loop's lateness is looked at."""
SAMPLE_EVERY = 10
"""Every so many looks, all that is watched is read: once a second, far more often than anybody scrapes."""


def watch_process(metrics: Metrics) -> None:
    """CPU time, memory and open files."""
    own = psutil.Process()
    metrics.watch(names.CPU_TIME, _cpu_time)
    metrics.watch(names.MEMORY, lambda: {(): own.memory_info().rss})
    metrics.watch(names.OPEN_FILES, lambda: {(): own.num_fds()})


def _cpu_time() -> dict[tuple[str, ...], float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {("user",): used.ru_utime, ("system",): used.ru_stime}


def watch_nats(metrics: Metrics, health: NatsHealth, client: Client) -> None:
    """The connection to the broker."""
    metrics.watch(names.NATS_CONNECTED, lambda: {(): float(health.connected)})
    metrics.watch(names.NATS_TROUBLES, lambda: {(): health.troubles})
    metrics.watch(names.NATS_RECONNECTS, lambda: {(): max(0, health.connections - 1)})
    metrics.watch(names.NATS_PENDING, lambda: {(): client.pending_data_size})
    metrics.watch(
        names.NATS_MESSAGES,
        lambda: {("sent",): client.stats["out_msgs"], ("received",): client.stats["in_msgs"]},
    )


async def sample_process(metrics: Metrics) -> None:
    """Looks at the event loop, and reads what is watched, until cancelled. A reading that fails is told once."""
    lag = metrics.histogram(names.LOOP_LAG)
    loop = asyncio.get_running_loop()
    looks, told = 0, False
    while True:
        if looks % SAMPLE_EVERY == 0:
            try:
                metrics.sample()
            except Exception as error:  # a fault in a figure must not end the figures
                if not told:
                    log.error("metrics.not_read", kind=type(error).__name__, exc_info=error)
                told = True
        looks += 1
        due_s = loop.time() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        lag.record(max(0.0, loop.time() - due_s))
