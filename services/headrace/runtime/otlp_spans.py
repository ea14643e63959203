"""Our spans as the SDK's exporters take them. Imported only when an exporter is asked for: it pulls in the SDK."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Status

from headrace.runtime.recording import RecordedSpan


class ConvertingExporter(SpanExporter):
    """Makes SDK spans of ours in the exporter's thread: whoever ends a span does not wait for that."""

    def __init__(self, inner: SpanExporter, resource: Resource, scope: InstrumentationScope) -> None:
        self._inner = inner
        self._resource = resource
        self._scope = scope

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        ours = cast("Sequence[RecordedSpan]", spans)
        return self._inner.export([self._converted(span) for span in ours])

    def _converted(self, span: RecordedSpan) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=span.context,
            parent=span.parent,
            resource=self._resource,
            attributes=span.attributes,
            events=[
                Event(name=name, attributes=attributes, timestamp=at_ns)
                for name, at_ns, attributes in span.events
            ],
            links=span.links,
            kind=span.kind,
            status=Status(span.status),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._inner.force_flush(timeout_millis)


class ExportQueue:
    """The SDK's bounded queue before an exporter: 2,048 spans (OTEL_BSP_MAX_QUEUE_SIZE); when full, the oldest go."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._processor = BatchSpanProcessor(exporter)

    def add(self, span: RecordedSpan) -> None:
        """A span has ended. The processor looks at nothing of it but whether it is sampled."""
        self._processor.on_end(cast("ReadableSpan", span))

    def shutdown(self) -> None:
        """Sends what is left. Blocks."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]
