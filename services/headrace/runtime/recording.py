"""A tracer of our own: what it takes to record a span is a small part of what the SDK's costs.

It implements OpenTelemetry's API, so that whoever traces does not see the difference. What ended goes to sinks; one of
them exports it over the SDK, if that is asked for, another one tells the gateways.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TraceState,
)
from opentelemetry.util._decorator import _agnosticcontextmanager
from opentelemetry.util.types import Attributes, AttributeValue

from headrace.runtime.propagation import root_of
from headrace.runtime.sampling import Sampler

MAX_EVENTS = 128
"""Events of one span: a request that is paused again and again. Further ones are counted."""
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSAMPLED = TraceFlags(TraceFlags.DEFAULT)
_NO_STATE = TraceState()


class RecordedSpan(Span):
    """A span that is recorded. Used by one thread; written by its owner until `end`, and by nobody afterwards."""

    __slots__ = (
        "_sink",
        "attributes",
        "context",
        "end_ns",
        "events",
        "events_lost",
        "kind",
        "links",
        "name",
        "parent",
        "start_ns",
        "status",
    )

    def __init__(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Attributes,
        links: Sequence[Link],
        start_ns: int,
        sink: Callable[[RecordedSpan], None],
    ) -> None:
        self.name = name
        self.context = context
        self.parent = parent
        self.kind = kind
        self.attributes: dict[str, AttributeValue] = dict(attributes) if attributes else {}
        self.links = list(links)
        self.events: list[tuple[str, int, Mapping[str, AttributeValue]]] = []
        self.events_lost = 0
        self.start_ns = start_ns
        self.end_ns = 0
        self.status = StatusCode.UNSET
        self._sink = sink

    def __repr__(self) -> str:
        return f"<RecordedSpan {self.name}{'' if self.end_ns else ', open'}>"

    def get_span_context(self) -> SpanContext:
        return self.context

    def is_recording(self) -> bool:
        return not self.end_ns

    def end(self, end_time: int | None = None) -> None:
        """Hands it on. Once: a second call does nothing."""
        if not self.end_ns:
            self.end_ns = time.time_ns() if end_time is None else end_time
            self._sink(self)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        if not self.end_ns:
            self.attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        if not self.end_ns:
            self.attributes.update(attributes)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        if self.end_ns:
            return
        if len(self.events) >= MAX_EVENTS:
            self.events_lost += 1
            return
        self.events.append((name, time.time_ns() if timestamp is None else timestamp, attributes or {}))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        if not self.end_ns:
            self.links.append(Link(context, attributes))

    def update_name(self, name: str) -> None:
        if not self.end_ns:
            self.name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        if not self.end_ns:
            self.status = status if isinstance(status, StatusCode) else status.status_code

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Its type alone: an exception's text may hold content."""
        self.add_event("exception", {"exception.type": type(exception).__qualname__}, timestamp)


class RecordingTracer(Tracer):
    """Makes spans, as `sampler` says, and hands each that has ended to all `sinks`, in the thread that ended it."""

    def __init__(self, sampler: Sampler, sinks: Sequence[Callable[[RecordedSpan], None]]) -> None:
        self._sampler = sampler
        self._sinks = tuple(sinks)
        self._random = random.Random()  # seeded by the system; ids are no secrets

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        above = trace.get_current_span(context).get_span_context()
        parent = above if above.is_valid else None
        trace_id = self._new_trace(context) if parent is None else parent.trace_id
        sampled = self._sampler(trace_id, parent)
        own = SpanContext(
            trace_id,
            self._random.getrandbits(64) or 1,
            is_remote=False,
            trace_flags=_SAMPLED if sampled else _UNSAMPLED,
            trace_state=_NO_STATE if parent is None else parent.trace_state,
        )
        if not sampled:
            return NonRecordingSpan(own)
        began = time.time_ns() if start_time is None else start_time
        return RecordedSpan(name, own, parent, kind, attributes, links or (), began, self._ended)

    @_agnosticcontextmanager
    def start_as_current_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[Any]:
        span = self.start_span(name, context, kind, attributes, links, start_time)
        with trace.use_span(
            span,
            end_on_exit=end_on_exit,
            record_exception=record_exception,
            set_status_on_exception=set_status_on_exception,
        ):
            yield span

    def _new_trace(self, context: Context | None) -> int:
        return root_of(context) or self._random.getrandbits(128) or 1

    def _ended(self, span: RecordedSpan) -> None:
        for sink in self._sinks:
            sink(span)
