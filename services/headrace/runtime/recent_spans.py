"""Spans that have ended, on their way to the gateways' memory: bounded, encoded late, and never waited for."""

from __future__ import annotations

from collections import deque

from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from headrace.contract import spans as values
from headrace.contract.span_wire import bundle_bytes, span_bytes
from headrace.contract.spans import RequestSpan, SpanBundle, SpanLink, SpanRecord
from headrace.runtime import trace_names as names
from headrace.runtime.recording import RecordedSpan

FLUSH_S = 0.25
"""How long spans wait for others to go along: for a person who looks it is at once."""
BUNDLE_SPANS = 64
"""Spans of one bundle: some 30 kB, and a millisecond's work."""
BUNDLE_BYTES = 128 * 1024
"""And where content is captured, after so many bytes no further one goes along."""

_KIND = {kind: values.SpanKind[kind.name] for kind in SpanKind}


class RecentSpans:
    """A sink of spans, from whatever thread; the event loop takes them in bundles.

    Holds at most `max_pending`: when full, the oldest is dropped and counted.
    """

    def __init__(self, process: str, instance: str, *, max_pending: int) -> None:
        self._process = process
        self._instance = instance
        # Its own operations are safe between threads.
        self._pending: deque[RecordedSpan] = deque(maxlen=max_pending)
        self._ended = 0
        self._taken = 0

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, span: RecordedSpan) -> None:
        """A span has ended."""
        self._ended += 1
        self._pending.append(span)

    def take(self) -> bytes:
        """The next bundle, encoded; b"" where there is nothing."""
        spans: list[RequestSpan] = []
        size = 0
        while self._pending and len(spans) < BUNDLE_SPANS and size < BUNDLE_BYTES:
            spans.append(_request_span(self._pending.popleft()))
            size += len(spans[-1].span)
        if not spans:
            return b""
        dropped = max(0, self._ended - self._taken - len(spans) - len(self._pending))
        self._taken += len(spans) + dropped
        return bundle_bytes(
            SpanBundle(process=self._process, instance=self._instance, spans=tuple(spans), dropped=dropped)
        )


def _request_span(span: RecordedSpan) -> RequestSpan:
    record = record_of(span)
    own = record.attributes.get(names.REQUEST_ID)
    ids = dict.fromkeys(link.request_id for link in record.links if link.request_id)
    if isinstance(own, str):
        ids[own] = None
    return RequestSpan(request_ids=tuple(ids), trace_id=record.trace_id, span=span_bytes(record))


def record_of(span: RecordedSpan) -> SpanRecord:
    """A span that has ended, as it crosses the mesh."""
    return SpanRecord(
        trace_id=format_trace_id(span.context.trace_id),
        span_id=format_span_id(span.context.span_id),
        parent_id="" if span.parent is None else format_span_id(span.parent.span_id),
        name=span.name,
        kind=_KIND[span.kind],
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        failed=span.status is StatusCode.ERROR,
        attributes=_plain(span.attributes),
        events=tuple(
            values.SpanEvent(name=name, at_ns=at_ns, attributes=_plain(attributes))
            for name, at_ns, attributes in span.events
        ),
        links=tuple(
            SpanLink(
                trace_id=format_trace_id(link.context.trace_id),
                span_id=format_span_id(link.context.span_id),
                request_id=str((link.attributes or {}).get(names.REQUEST_ID, "")),
            )
            for link in span.links
        ),
    )


def _plain(attributes: object) -> dict[str, values.AttributeValue]:
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in attributes.items()  # type: ignore[attr-defined]
    }
