"""The messages that carry spans, with the values they carry and the way there and back."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from headrace.contract import span_wire as wire
from headrace.contract.spans import (
    RequestSpan,
    RequestTrace,
    SpanBundle,
    SpanEvent,
    SpanKind,
    SpanLink,
    SpanRecord,
    TraceList,
    TraceMemory,
    TraceSummary,
)
from headrace.v1 import admin_pb2, trace_pb2
from tests.contract.strategies import SECONDS, TEXTS, UINT32, UINT64, tuples

HEX = st.binary(max_size=16).map(bytes.hex)
INT64 = st.integers(-(2**63), 2**63 - 1)
ATTRIBUTES = st.dictionaries(
    TEXTS,
    TEXTS
    | st.booleans()
    | INT64
    | st.floats(allow_nan=False)
    | tuples(TEXTS)
    | st.lists(INT64, min_size=1).map(tuple),
    max_size=3,
)
EVENTS = st.builds(SpanEvent, name=TEXTS, at_ns=UINT64, attributes=ATTRIBUTES)
SPANS = st.builds(
    SpanRecord,
    trace_id=HEX,
    span_id=HEX,
    parent_id=HEX,
    name=TEXTS,
    kind=st.sampled_from(SpanKind),
    start_ns=UINT64,
    end_ns=UINT64,
    failed=st.booleans(),
    attributes=ATTRIBUTES,
    events=tuples(EVENTS),
    links=tuples(st.builds(SpanLink, trace_id=HEX, span_id=HEX, request_id=TEXTS)),
    process=TEXTS,
    instance=TEXTS,
)
BUNDLES = st.builds(
    SpanBundle,
    process=TEXTS,
    instance=TEXTS,
    spans=tuples(st.builds(RequestSpan, request_ids=tuples(TEXTS), trace_id=HEX, span=st.binary())),
    dropped=UINT32,
)
SUMMARIES = st.builds(
    TraceSummary,
    request_id=TEXTS,
    trace_id=TEXTS,
    started_s=SECONDS,
    duration_s=SECONDS,
    model=TEXTS,
    tenant=TEXTS,
    priority=TEXTS,
    outcome=TEXTS,
    error=TEXTS,
    spans=UINT32,
    cause=TEXTS,
)
LISTS = st.builds(
    TraceList,
    traces=tuples(SUMMARIES),
    memory=st.builds(
        TraceMemory,
        requests=UINT32,
        bytes=UINT64,
        max_bytes=UINT64,
        dropped_spans=UINT64,
        on=st.booleans(),
    ),
)
TRACES = st.builds(
    RequestTrace,
    causes=tuples(TEXTS),
    summary=SUMMARIES,
    spans=tuples(SPANS),
    others=tuples(TEXTS),
)
TRACE_TRIPS: list[tuple[Any, Any, Any, Any]] = [
    (trace_pb2.Span, SPANS, wire.encode_span, wire.decode_span),
    (trace_pb2.SpanBundle, BUNDLES, wire.encode_bundle, wire.decode_bundle),
    (
        admin_pb2.ListTracesRequest,
        st.tuples(UINT32, st.booleans()),
        lambda asked: wire.encode_list_traces(*asked),
        wire.decode_list_traces,
    ),
    (admin_pb2.ListTracesResponse, LISTS, wire.traces_response, wire.decode_traces_response),
    (admin_pb2.GetTraceRequest, TEXTS, wire.encode_get_trace, wire.decode_get_trace),
    (admin_pb2.GetTraceResponse, TRACES, wire.trace_response, wire.decode_trace_response),
]
