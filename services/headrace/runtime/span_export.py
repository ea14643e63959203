"""A span exporter that speaks up once per change of state, where the SDK's own would log every failed try.

Imported only when telemetry is on: it pulls in the SDK.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

log = structlog.get_logger(__name__)

# Where the SDK logs what goes wrong on the way out. Should they be renamed, its own lines come through again.
_EXPORT_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.sdk._shared_internal",
)


class WatchedExporter(SpanExporter):
    """Hands spans to `inner` and logs the change from working to failing and back, once each.

    While it fails the batch processor's bounded queue drops the oldest spans; nothing else waits for it.
    `failing` has one writer at a time: the thread that exports.
    """

    def __init__(self, inner: SpanExporter, target: str) -> None:
        self._inner = inner
        self._target = target
        self._thread = 0  # the thread that is inside inner.export, 0 = none
        self._closed = False
        self.failing = False
        for name in _EXPORT_LOGGERS:
            logging.getLogger(name).addFilter(self._admit)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._thread = threading.get_ident()
        try:
            result = self._inner.export(spans)
        except Exception as error:
            self._failed(type(error).__name__)
            return SpanExportResult.FAILURE
        finally:
            self._thread = 0
            if self._closed:
                self._release()
        if result is SpanExportResult.SUCCESS:
            self._worked()
        else:
            self._failed("the exporter gave up")
        return result

    def _admit(self, record: logging.LogRecord) -> bool:
        """Logging filter. Takes over what is logged inside our own export, and what follows from its failing."""
        if record.thread == self._thread:
            if record.levelno >= logging.WARNING:
                self._failed(record.getMessage())
            return False
        return not (self.failing and record.getMessage().startswith("Queue full"))

    def _failed(self, problem: str) -> None:
        if not self.failing:
            self.failing = True
            log.warning(
                f"traces do not reach {self._target}; the oldest are dropped as their queue fills: {problem}"
            )

    def _worked(self) -> None:
        if self.failing:
            self.failing = False
            log.info(f"traces reach {self._target} again")

    def shutdown(self) -> None:
        self._closed = True
        self._inner.shutdown()
        if not self._thread:
            self._release()  # else the export that is being cut short does it, when it has logged its last

    def _release(self) -> None:
        for name in _EXPORT_LOGGERS:
            logging.getLogger(name).removeFilter(self._admit)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._inner.force_flush(timeout_millis)
