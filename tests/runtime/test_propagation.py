"""Trace context across the hops."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracer, SpanKind, Tracer

from headrace.contract.values import NO_TRACE, TraceContext
from headrace.runtime.propagation import (
    as_parent,
    current_trace,
    extract,
    extract_metadata,
    inject,
    links_to,
    metadata_of,
    parse,
    record_span,
    trace_of,
)

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"

MALFORMED = [
    "",
    "nonsense",
    f"00-{TRACE_ID}-{SPAN_ID}",
    f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
    f"00-{'0' * 32}-{SPAN_ID}-01",
    f"00-{TRACE_ID}-{'0' * 16}-01",
    f"ff-{TRACE_ID}-{SPAN_ID}-01",
    f"00-{TRACE_ID}-{SPAN_ID}-01-more",
    f"00-{TRACE_ID}-{SPAN_ID}-01\r\nNats-Msg-Id: forged",
    "00-" * 10_000,
]


@pytest.fixture
def exported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exported: InMemorySpanExporter) -> Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exported))
    return provider.get_tracer("test")


@pytest.mark.parametrize("traceparent", MALFORMED)
def test_malformed_traceparent_is_as_none(traceparent: str, tracer: Tracer) -> None:
    """A malformed traceparent gives no context, and a span below it begins a new trace."""
    assert parse(traceparent) == NO_TRACE
    unchecked = TraceContext(traceparent=traceparent)  # as it may come in one of our own messages
    span = tracer.start_span("x", context=as_parent(unchecked))
    assert span.get_span_context().is_valid
    assert span.get_span_context().trace_id != int(TRACE_ID, 16)
    assert links_to([unchecked]) == []


def test_bad_tracestate_is_dropped_alone() -> None:
    """A tracestate that could forge a header, or is over-long, does not take the traceparent with it."""
    for bad in ("a=b\r\nNats-Msg-Id: forged", "a=" + "b" * 600, "a=\x00"):
        assert parse(PARENT, bad) == TraceContext(traceparent=PARENT)


def test_later_version_is_understood() -> None:
    """A traceparent of a later version, with more fields, still gives its first four."""
    span = trace.get_current_span(as_parent(parse(f"cc-{TRACE_ID}-{SPAN_ID}-01-what-comes")))
    assert f"{span.get_span_context().trace_id:032x}" == TRACE_ID


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
def test_header_names_match_in_any_case(name: str) -> None:
    """NATS keeps the case of header names, and Go's clients capitalise them."""
    context = extract({name: PARENT, "TraceState": "vendor=1", "other": "x"})
    assert context == TraceContext(traceparent=PARENT, tracestate="vendor=1")


def test_no_headers_no_context() -> None:
    """Absent and empty headers and metadata give no context."""
    assert extract(None) == extract({}) == extract_metadata(None) == extract_metadata(()) == NO_TRACE


def test_metadata_with_several_tracestates_joins_them() -> None:
    """Several tracestate entries are one list; binary metadata beside them is no obstacle."""
    metadata: list[tuple[str, str | bytes]] = [
        ("traceparent", PARENT),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
        ("blob-bin", b"\x00"),
    ]
    assert extract_metadata(metadata) == TraceContext(traceparent=PARENT, tracestate="a=1,b=2")


def test_two_traceparents_are_none() -> None:
    """Two parents contradict each other: a new trace."""
    assert extract_metadata([("traceparent", PARENT), ("traceparent", PARENT)]) == NO_TRACE


def test_inject_replaces_what_was_there() -> None:
    """A forwarded message keeps no older context in another case beside the new one."""
    headers = {"Traceparent": "old", "TraceState": "old", "Nats-Msg-Id": "1"}
    inject(TraceContext(traceparent=PARENT), headers)
    assert headers == {"Nats-Msg-Id": "1", "traceparent": PARENT}


def test_round_trip_through_headers_and_metadata() -> None:
    """What is injected is what is extracted."""
    context = TraceContext(traceparent=PARENT, tracestate="a=1,b=2")
    headers: dict[str, str] = {}
    inject(context, headers)
    assert extract(headers) == context
    assert extract_metadata(metadata_of(context)) == context
    assert metadata_of(NO_TRACE) == ()


def test_off_the_parent_passes_unchanged() -> None:
    """With telemetry off the next hop gets the very strings that came in, also those of a later version."""
    tracer = NoOpTracer()
    for traceparent in (PARENT, f"00-{TRACE_ID}-{SPAN_ID}-00", f"cc-{TRACE_ID}-{SPAN_ID}-01-more"):
        parent = TraceContext(traceparent=traceparent, tracestate="vendor=1")
        with tracer.start_as_current_span("hop", context=as_parent(parent)) as span:
            assert trace_of(span, parent) == parent
        assert record_span(tracer, "queue", parent=parent, start_ns=1, end_ns=2) == parent


def test_off_without_parent_there_is_no_context() -> None:
    """With telemetry off nothing is made up."""
    span = NoOpTracer().start_span("hop", context=as_parent(NO_TRACE))
    assert trace_of(span) == NO_TRACE
    assert current_trace() == NO_TRACE


def test_on_the_next_hop_gets_the_span(tracer: Tracer) -> None:
    """With telemetry on the next hop's parent is the span, in the same trace, with the tracestate kept."""
    parent = TraceContext(traceparent=PARENT, tracestate="vendor=1")
    with tracer.start_as_current_span("hop", context=as_parent(parent)) as span:
        told = trace_of(span, parent)
        assert current_trace() == told
    assert told.traceparent == f"00-{TRACE_ID}-{span.get_span_context().span_id:016x}-01"
    assert told.tracestate == "vendor=1"


def test_unsampled_span_is_told_as_unsampled(tracer: Tracer) -> None:
    """A parent that was not sampled stays in its trace and stays unsampled."""
    parent = parse(f"00-{TRACE_ID}-{SPAN_ID}-00")
    told = trace_of(tracer.start_span("hop", context=as_parent(parent)), parent)
    assert told.traceparent.startswith(f"00-{TRACE_ID}-")
    assert told.traceparent.endswith("-00")


def test_no_parent_ignores_the_current_span(tracer: Tracer) -> None:
    """`as_parent(NO_TRACE)` begins a new trace, even inside another span."""
    with tracer.start_as_current_span("other") as other:
        span = tracer.start_span("hop", context=as_parent(NO_TRACE))
    assert span.get_span_context().trace_id != other.get_span_context().trace_id


def test_record_span_between_two_times(tracer: Tracer, exported: InMemorySpanExporter) -> None:
    """A span recorded afterwards has the times, parent, kind, attributes and links it was given."""
    told = record_span(
        tracer,
        "queue",
        parent=parse(PARENT),
        start_ns=1_000,
        end_ns=5_000,
        kind=SpanKind.CONSUMER,
        attributes={"headrace.attempt": 2},
        links=[parse(PARENT), NO_TRACE],
    )
    (span,) = exported.get_finished_spans()
    assert (span.start_time, span.end_time, span.kind) == (1_000, 5_000, SpanKind.CONSUMER)
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == SPAN_ID
    assert dict(span.attributes or {}) == {"headrace.attempt": 2}
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [TRACE_ID]
    assert span.context is not None
    assert told.traceparent == f"00-{TRACE_ID}-{span.context.span_id:016x}-01"


def test_record_span_survives_clock_skew(tracer: Tracer, exported: InMemorySpanExporter) -> None:
    """A broker whose clock is ahead gives a span of no length, not one of negative length."""
    record_span(tracer, "queue", parent=NO_TRACE, start_ns=9_000, end_ns=5_000)
    (span,) = exported.get_finished_spans()
    assert span.start_time == span.end_time == 5_000
