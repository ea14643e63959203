"""A span exporter that speaks up once per change of state, where the SDK's own would log every failed try.

Imported only when telemetry is on: it pulls in the SDK.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from headrace.runtime.export_watch import ExportWatch


class WatchedExporter(SpanExporter):
    """Hands spans to `inner` and logs the change from working to failing and back, once each.

    While it fails the batch processor's bounded queue drops the oldest spans; nothing else waits for it.
    """

    def __init__(self, inner: SpanExporter, target: str) -> None:
        self._inner = inner
        self._watch = ExportWatch("traces", target, meanwhile="the oldest are dropped as their queue fills")

    @property
    def failing(self) -> bool:
        """Whether the last try failed."""
        return self._watch.failing

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._watch.attempt(
            lambda: self._inner.export(spans),
            succeeded=lambda result: result is SpanExportResult.SUCCESS,
            failure=SpanExportResult.FAILURE,
        )

    def shutdown(self) -> None:
        self._inner.shutdown()
        self._watch.close()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._inner.force_flush(timeout_millis)
