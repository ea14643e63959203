"""A metric exporter over OTLP that speaks up once per change of state, where the SDK's own would log every failed try.

Imported only when metrics go there: it pulls in the SDK.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData

from headrace.runtime.export_watch import ExportWatch


class WatchedMetricExporter(OTLPMetricExporter):
    """Exports over gRPC as the OTEL_ settings say. What a failed export held is in the next one: counts only grow."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self._watch = ExportWatch("metrics", target, meanwhile="the next export will hold what this one had")

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        return self._watch.attempt(
            lambda: super(WatchedMetricExporter, self).export(metrics_data, timeout_millis, **kwargs),
            succeeded=lambda result: result is MetricExportResult.SUCCESS,
            failure=MetricExportResult.FAILURE,
        )

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        super().shutdown(timeout_millis, **kwargs)
        self._watch.close()
