"""Tracing of one process: exported as the standard `OTEL_*` settings ask for it, and told to the gateways, which
remember recent requests (`traces.recent`). Off, at no cost, without either.

Spans are exported when `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set, or when
`OTEL_TRACES_EXPORTER` names `otlp` or `console`; and no longer with `OTEL_SDK_DISABLED=true`, which ends all tracing,
or `OTEL_TRACES_EXPORTER=none`. Sampler, batching, headers, TLS, resource attributes and service name follow the
standard settings too.

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
from headrace.runtime.otel_settings import endpoint, exporters_asked, resource, setting, version
from headrace.runtime.recent_spans import RecentSpans
from headrace.runtime.recording import RecordingTracer
from headrace.runtime.sampling import sampler_of
from headrace.runtime.settings_traces import TraceSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from headrace.runtime.otlp_spans import ExportQueue

log = structlog.get_logger(__name__)

FLUSH_LIMIT_S = 3.0
"""How long an exit waits for spans to leave: well below the 10 s after which supervisors tend to kill."""

_CANCEL_LIMIT_S = 0.5  # how long the exporter may take to notice that it was stopped


@dataclass(slots=True)
class Telemetry:
    """What one process traces with. A context manager, sync and async; leaving it sends the rest, within a limit."""

    tracer: Tracer
    _stop: Callable[[], None] | None = field(default=None, repr=False)
    recent: RecentSpans | None = field(default=None, repr=False)
    """What the gateways are to be told; None = nothing."""

    @property
    def on(self) -> bool:
        """Whether spans are recorded."""
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


def start_telemetry(
    process: str,
    instance: str,
    *,
    traces: TraceSettings | None = None,
    flush_limit_s: float = FLUSH_LIMIT_S,
) -> Telemetry:
    """Telemetry for a process (`router`, `gateway`, …) and its instance's name, as `traces` and the environment ask
    for it.

    Raises StartError where a setting asks for what there is not.
    """
    names = exporters_asked("TRACES")
    disabled = setting("OTEL_SDK_DISABLED").lower() == "true"
    recent = None
    if traces is not None and traces.recent and not disabled:
        recent = RecentSpans(process, instance, max_pending=traces.pending_spans)
    if not names and recent is None:
        return telemetry_off()
    sampler = sampler_of(setting("OTEL_TRACES_SAMPLER"), setting("OTEL_TRACES_SAMPLER_ARG"))
    if not names:
        assert recent is not None, "or nothing is on"
        return Telemetry(RecordingTracer(sampler, (recent.add,)), lambda: None, recent)
    try:
        queues, stop = _exporting(names, process, instance, flush_limit_s)
        sinks = [queue.add for queue in queues] + ([] if recent is None else [recent.add])
        return Telemetry(RecordingTracer(sampler, sinks), stop, recent)
    except Exception as error:  # the SDK raises whatever its parsing of a setting happens to raise
        raise StartError(
            f"tracing cannot start with these OTEL_* settings: {error}", "Correct or unset them"
        ) from error


def _exporting(
    names: tuple[str, ...], process: str, instance: str, flush_limit_s: float
) -> tuple[list[ExportQueue], Callable[[], None]]:
    """The queues of the exporters, and what ends them."""
    # Imported here, as loading the SDK and the exporter takes 0.3 s that a process without exporter need not spend.
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from headrace.runtime.otlp_spans import ConvertingExporter, ExportQueue
    from headrace.runtime.span_export import WatchedExporter

    about, scope = resource(process, instance), InstrumentationScope("headrace", version())
    exporters: list[SpanExporter] = []
    for name in names:
        exporter: SpanExporter
        if name == "console":
            exporter = ConsoleSpanExporter()
        else:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

            otlp = OTLPSpanExporter()
            exporter = WatchedExporter(otlp, target=endpoint("TRACES"))
        exporters.append(ConvertingExporter(exporter, about, scope))
    queues = [ExportQueue(exporter) for exporter in exporters]

    def shut_down() -> None:
        for queue in queues:
            queue.shutdown()

    return queues, lambda: _shut_down(shut_down, exporters, flush_limit_s)


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
