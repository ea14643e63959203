"""Metrics of one process, exported as its settings ask: on a Prometheus endpoint, over OTLP, both, or not at all.

Prometheus: `metrics.port`. OTLP: the standard `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`,
or `OTEL_METRICS_EXPORTER`, which may also be `console` or `none`. Interval, temporality, headers, TLS and resource
attributes follow the SDK's standard settings too, and so does which measurements may be examples
(`OTEL_METRICS_EXEMPLAR_FILTER`; unless it says otherwise those of sampled traces). Neither: nothing of the SDK is
loaded, and tallies are all that is kept.

The global meter provider is left alone, as the tracer's is.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from headrace.contract.errors import StartError
from headrace.runtime.metrics import Metrics
from headrace.runtime.otel_settings import endpoint, exporters_asked, resource, setting, version
from headrace.runtime.process_figures import sample_process, watch_process
from headrace.runtime.settings_metrics import MetricsSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import CardinalityLimits, MetricReader

    from headrace.runtime.metrics_endpoint import MetricsEndpoint

log = structlog.get_logger(__name__)

FLUSH_LIMIT_S = 3.0
"""How long an exit waits for the last export: well below the 10 s after which supervisors tend to kill."""
OTHER_LABELS = 2_000
"""Series of a metric beside those that its names tell apart: there are far fewer. The SDK would fold them away."""


@asynccontextmanager
async def exported_metrics(
    process: str, instance: str, settings: MetricsSettings, *, flush_limit_s: float = FLUSH_LIMIT_S
) -> AsyncIterator[Metrics]:
    """The metrics of a process (`router`, `gateway`, …), exported while the block runs; leaving it sends the last.

    Raises StartError where a setting asks for what there is not.
    """
    metrics, close = start_metrics(process, instance, settings)
    watch_process(metrics)
    if not metrics.on:
        yield metrics
        return
    if metrics.address:
        log.info("metrics.ready", address=f"http://{metrics.address}/metrics")
    sampling = asyncio.create_task(sample_process(metrics), name="metrics")
    try:
        yield metrics
    finally:
        sampling.cancel()
        metrics.sample()
        await asyncio.to_thread(_within, close, flush_limit_s)


def start_metrics(
    process: str, instance: str, settings: MetricsSettings
) -> tuple[Metrics, Callable[[], None]]:
    """The metrics, and what ends their export. Raises StartError."""
    exporters = exporters_asked(
        "METRICS", instead="; for a Prometheus endpoint set HEADRACE_METRICS_PORT instead"
    )
    serves = settings.port is not None
    if serves and setting("OTEL_SDK_DISABLED").lower() == "true":
        log.warning("metrics.disabled", setting="metrics.port", by="OTEL_SDK_DISABLED=true")
        serves = False
    if not exporters and not serves:
        return Metrics(max_series=settings.max_series), lambda: None
    try:
        return _start(exporters, process, instance, settings, serves=serves)
    except StartError:
        raise
    except Exception as error:  # the SDK raises whatever its parsing of a setting happens to raise
        raise StartError(
            f"metrics cannot start with these OTEL_* settings: {error}", "Correct or unset them"
        ) from error


def _start(
    exporters: tuple[str, ...], process: str, instance: str, settings: MetricsSettings, *, serves: bool
) -> tuple[Metrics, Callable[[], None]]:
    # Imported here: a process that exports nothing need not load the SDK.
    from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider

    limits = _limits(settings.max_series + OTHER_LABELS)
    readers = [_pushing(name, limits) for name in exporters]
    served: MetricsEndpoint | None = None
    address = ""
    if serves:
        reader, served = _served(settings, limits)
        readers.append(reader)
        address = settings.advertise or served.address
    provider = MeterProvider(
        readers,
        resource=resource(process, instance),
        # Prometheus gets no examples, so none are gathered for it alone. None: as OTEL_METRICS_EXEMPLAR_FILTER says.
        exemplar_filter=None if exporters else AlwaysOffExemplarFilter(),
        shutdown_on_exit=False,
    )

    def close() -> None:
        if served is not None:
            served.close()
        provider.shutdown()

    meter = provider.get_meter("headrace", version())
    return Metrics(meter, max_series=settings.max_series, address=address), close


def _pushing(name: str, limits: CardinalityLimits) -> MetricReader:
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader

    if name == "console":
        return PeriodicExportingMetricReader(ConsoleMetricExporter(), cardinality_limits=limits)
    from headrace.runtime.metric_export import WatchedMetricExporter

    exporter = WatchedMetricExporter(endpoint("METRICS"))
    return PeriodicExportingMetricReader(exporter, cardinality_limits=limits)


def _served(settings: MetricsSettings, limits: CardinalityLimits) -> tuple[MetricReader, MetricsEndpoint]:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import CollectorRegistry

    from headrace.runtime.metrics_endpoint import MetricsEndpoint

    registry = CollectorRegistry()  # not the library's global one: a test holds several processes at once
    # Names and version of the scope are the same on each line, and `target_info` tells them.
    reader = PrometheusMetricReader(registry=registry, scope_info_enabled=False, cardinality_limits=limits)
    assert settings.port is not None
    return reader, MetricsEndpoint(registry, host=settings.host, port=settings.port)


def _limits(series: int) -> CardinalityLimits:
    from opentelemetry.sdk.metrics import Histogram, ObservableCounter, ObservableGauge

    return {Histogram: series, ObservableCounter: series, ObservableGauge: series}


def _within(close: Callable[[], None], limit_s: float) -> None:
    """Closes within `limit_s`. The SDK alone would wait 30 s for a collector that does not answer."""
    closing = threading.Thread(target=close, name="metrics-flush", daemon=True)
    closing.start()
    closing.join(limit_s)
    if closing.is_alive():
        log.warning("metrics that could not be sent before the end are dropped", limit_s=limit_s)
