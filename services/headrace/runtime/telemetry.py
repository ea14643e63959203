"""Tracing of one process, as the standard `OTEL_*` settings ask for it; off, at no cost, without them.

It is on when `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set, or when
`OTEL_TRACES_EXPORTER` names `otlp` or `console`; and off with `OTEL_SDK_DISABLED=true` or `OTEL_TRACES_EXPORTER=none`.
Sampler, batching, headers, TLS, resource attributes and service name follow the SDK's standard settings too.

The global tracer provider is left alone: whoever traces is given a `Telemetry`, and a test can hold several at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

import structlog
from opentelemetry.trace import NoOpTracer, Tracer

from headrace.contract.errors import StartError
from headrace.runtime.otel_settings import endpoint, exporters_asked, resource, version

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

log = structlog.get_logger(__name__)

FLUSH_LIMIT_S = 3.0
"""How long an exit waits for spans to leave: well below the 10 s after which supervisors tend to kill."""

_CANCEL_LIMIT_S = 0.5  # how long the exporter may take to notice that it was stopped


@dataclass(slots=True)
class Telemetry:
    """What one process traces with. A context manager, sync and async; leaving it sends the rest, within a limit."""

    tracer: Tracer
    _stop: Callable[[], None] | None = field(default=None, repr=False)

    @property
    def on(self) -> bool:
        """Whether spans are recorded and exported."""
        return self._stop is not None

    def close(self) -> None:
        """Sends what is left and stops. Blocks for at most the flush limit; a second call does nothing."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self.on:
            await asyncio.to_thread(self.close)


def telemetry_off() -> Telemetry:
    """Telemetry that records nothing. Incoming trace context still passes through."""
    return Telemetry(NoOpTracer())


def start_telemetry(process: str, instance: str, *, flush_limit_s: float = FLUSH_LIMIT_S) -> Telemetry:
    """Telemetry for a process (`router`, `gateway`, …) and its instance's name, as the environment asks for it.

    Raises StartError where a setting asks for what there is not.
    """
    names = exporters_asked("TRACES")
    if not names:
        return telemetry_off()
    try:
        return _start(names, process, instance, flush_limit_s)
    except Exception as error:  # the SDK raises whatever its parsing of a setting happens to raise
        raise StartError(
            f"tracing cannot start with these OTEL_* settings: {error}", "Correct or unset them"
        ) from error


def _start(names: tuple[str, ...], process: str, instance: str, flush_limit_s: float) -> Telemetry:
    # Imported here, as loading the SDK and the exporter takes 0.3 s that a process without telemetry need not spend.
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    from headrace.runtime.span_export import WatchedExporter

    # No sampler is passed: the SDK reads OTEL_TRACES_SAMPLER, whose default is parentbased_always_on.
    provider = TracerProvider(resource=resource(process, instance), shutdown_on_exit=False)
    exporters: list[SpanExporter] = []
    for name in names:
        exporter: SpanExporter
        if name == "console":
            exporter = ConsoleSpanExporter()
        else:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

            otlp = OTLPSpanExporter()
            exporter = WatchedExporter(otlp, target=endpoint("TRACES"))
        exporters.append(exporter)
        # Bounded: 2,048 spans (OTEL_BSP_MAX_QUEUE_SIZE); the oldest are dropped when it is full.
        provider.add_span_processor(BatchSpanProcessor(exporter))

    def stop() -> None:
        _shut_down(provider.shutdown, exporters, flush_limit_s)

    return Telemetry(provider.get_tracer("headrace", version()), stop)


def _shut_down(shutdown: Callable[[], None], exporters: list[SpanExporter], limit_s: float) -> None:
    """Shuts the provider down within `limit_s`. The SDK alone would wait 30 s for a collector that does not answer."""
    flush = threading.Thread(target=shutdown, name="telemetry-flush", daemon=True)
    flush.start()
    flush.join(limit_s)
    if not flush.is_alive():
        return
    log.warning("traces that could not be sent before the end are dropped", limit_s=limit_s)
    for exporter in exporters:
        exporter.shutdown()  # ends the call in flight and its retries
    flush.join(_CANCEL_LIMIT_S)
