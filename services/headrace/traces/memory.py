"""The spans of recent requests: encoded, as they came, and bounded."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace

from headrace.contract.errors import MalformedMessage
from headrace.contract.span_wire import read_span
from headrace.contract.spans import RequestSpan, SpanBundle, SpanRecord, TraceMemory

ENTRY_BYTES = 600
"""What a remembered request takes beside its spans."""
SPAN_BYTES = 120
"""What a remembered span takes beside its bytes."""
TRACES_OF_ONE_ID = 1_000
"""Requests that are found under one trace's id: a producer may put all it has into one trace."""


@dataclass(slots=True, eq=False)
class Remembered:
    """The spans of one request, or of one trace's calls that named none."""

    key: str
    trace_id: str
    spans: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Process, instance, and the encoded span."""
    bytes: int = ENTRY_BYTES
    lost: int = 0
    """Spans that came and were not kept."""

    def decode(self) -> tuple[SpanRecord, ...]:
        """In the order of their start."""
        found = []
        for process, instance, body in self.spans:
            try:
                found.append(replace(read_span(body), process=process, instance=instance))
            except MalformedMessage:
                continue  # told by another process: its fault costs this one span
        return tuple(sorted(found, key=lambda span: (span.start_ns, -span.end_ns)))


class Memory:
    """By request, the one last heard of last. A span that belongs to several requests is kept with each.

    Invariant: `bytes` is the sum over `_requests` and at most `max_bytes`; `_traces` has the keys of `_requests` by
    trace id.
    """

    def __init__(self, *, max_bytes: int, max_spans: int, on: bool = True) -> None:
        self._max_bytes = max_bytes
        self._max_spans = max_spans
        self._on = on
        self._requests: OrderedDict[str, Remembered] = OrderedDict()
        self._traces: dict[str, OrderedDict[str, None]] = {}
        self._bytes = 0
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._requests)

    def __repr__(self) -> str:
        return f"<Memory: {len(self)} requests, {self._bytes} of {self._max_bytes} bytes>"

    @property
    def state(self) -> TraceMemory:
        """How much is remembered."""
        return TraceMemory(
            requests=len(self._requests),
            bytes=self._bytes,
            max_bytes=self._max_bytes,
            dropped_spans=self._dropped,
            on=self._on,
        )

    def take(self, bundle: SpanBundle) -> None:
        """Remembers what a process has told."""
        self._dropped += bundle.dropped
        for span in bundle.spans:
            for key in span.request_ids or (span.trace_id,):
                self._put(key, span, bundle)

    def _put(self, key: str, span: RequestSpan, bundle: SpanBundle) -> None:
        entry = self._requests.get(key)
        if entry is None:
            entry = self._requests[key] = Remembered(key, span.trace_id)
            self._bytes += entry.bytes
            self._traces.setdefault(span.trace_id, OrderedDict())[key] = None
        else:
            self._requests.move_to_end(key)
        if len(entry.spans) >= self._max_spans:
            entry.lost += 1
            return
        size = len(span.span) + SPAN_BYTES
        entry.spans.append((bundle.process, bundle.instance, span.span))
        entry.bytes += size
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        key, entry = self._requests.popitem(last=False)
        self._bytes -= entry.bytes
        keys = self._traces[entry.trace_id]
        del keys[key]
        if not keys:
            del self._traces[entry.trace_id]

    def latest(self, count: int) -> list[Remembered]:
        """Those last heard of, the latest first."""
        found: list[Remembered] = []
        for entry in reversed(self._requests.values()):
            if len(found) >= count:
                break
            found.append(entry)
        return found

    def find(self, wanted: str) -> tuple[Remembered, tuple[str, ...]] | None:
        """By a request's id, or by a trace's: then the request of it that came last, and the ids of the others."""
        if (entry := self._requests.get(wanted)) is not None:
            return entry, ()
        keys = [key for key in self._traces.get(wanted, ()) if key in self._requests]
        if not keys:
            return None
        *others, last = keys[-TRACES_OF_ONE_ID:]
        return self._requests[last], tuple(reversed(others))
