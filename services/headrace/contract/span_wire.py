"""Spans, and what a gateway tells of them, to protobuf and back."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import DecodeError

from headrace.contract.common_wire import (
    decode_duration,
    decode_timestamp,
    encode_duration,
    encode_timestamp,
)
from headrace.contract.errors import MalformedMessage
from headrace.contract.spans import (
    Attributes,
    AttributeValue,
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

_KIND = {
    SpanKind.INTERNAL: trace_pb2.SPAN_KIND_INTERNAL,
    SpanKind.SERVER: trace_pb2.SPAN_KIND_SERVER,
    SpanKind.CLIENT: trace_pb2.SPAN_KIND_CLIENT,
    SpanKind.PRODUCER: trace_pb2.SPAN_KIND_PRODUCER,
    SpanKind.CONSUMER: trace_pb2.SPAN_KIND_CONSUMER,
}
_KIND_IN = {number: kind for kind, number in _KIND.items()}


def encode_span(span: SpanRecord) -> trace_pb2.Span:
    out = trace_pb2.Span(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_id=bytes.fromhex(span.parent_id),
        name=span.name,
        kind=_KIND[span.kind],
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        failed=span.failed,
        process=span.process,
        instance=span.instance,
    )
    _put(out.attributes, span.attributes)
    for event in span.events:
        _put(out.events.add(name=event.name, at_ns=event.at_ns).attributes, event.attributes)
    for link in span.links:
        out.links.add(
            trace_id=bytes.fromhex(link.trace_id),
            span_id=bytes.fromhex(link.span_id),
            request_id=link.request_id,
        )
    return out


def decode_span(message: trace_pb2.Span) -> SpanRecord:
    """A kind that only a newer version knows is INTERNAL."""
    return SpanRecord(
        trace_id=message.trace_id.hex(),
        span_id=message.span_id.hex(),
        parent_id=message.parent_id.hex(),
        name=message.name,
        kind=_KIND_IN.get(message.kind, SpanKind.INTERNAL),
        start_ns=message.start_ns,
        end_ns=message.end_ns,
        failed=message.failed,
        attributes=_taken(message.attributes),
        events=tuple(
            SpanEvent(name=event.name, at_ns=event.at_ns, attributes=_taken(event.attributes))
            for event in message.events
        ),
        links=tuple(
            SpanLink(trace_id=link.trace_id.hex(), span_id=link.span_id.hex(), request_id=link.request_id)
            for link in message.links
        ),
        process=message.process,
        instance=message.instance,
    )


def _put(out: object, attributes: Attributes) -> None:
    for name, value in attributes.items():
        _put_value(out.add(name=name), value)  # type: ignore[attr-defined]


def _put_value(out: trace_pb2.Attribute, value: AttributeValue) -> None:
    if isinstance(value, str):
        out.text = value
    elif isinstance(value, bool):
        out.yes = value
    elif isinstance(value, int):
        out.whole = max(-(2**63), min(value, 2**63 - 1))
    elif isinstance(value, float):
        out.number = value
    elif value and isinstance(value[0], int):
        out.wholes.values.extend(map(int, value))
    else:
        out.texts.SetInParent()
        out.texts.values.extend(map(str, value))


def _taken(attributes: Iterable[trace_pb2.Attribute]) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {}
    for attribute in attributes:
        match attribute.WhichOneof("value"):
            case None:
                continue
            case "texts":
                found[attribute.name] = tuple(attribute.texts.values)
            case "wholes":
                found[attribute.name] = tuple(attribute.wholes.values)
            case which:
                found[attribute.name] = getattr(attribute, which)
    return found


def span_bytes(span: SpanRecord) -> bytes:
    """A span as it is kept."""
    return encode_span(span).SerializeToString()


def read_span(body: bytes) -> SpanRecord:
    """Raises MalformedMessage."""
    message = trace_pb2.Span()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise MalformedMessage("span", "is not a Span") from None
    return decode_span(message)


def encode_bundle(bundle: SpanBundle) -> trace_pb2.SpanBundle:
    out = trace_pb2.SpanBundle(
        process=bundle.process, instance=bundle.instance, dropped=min(bundle.dropped, 2**32 - 1)
    )
    for span in bundle.spans:
        out.spans.add(request_ids=span.request_ids, trace_id=bytes.fromhex(span.trace_id), span=span.span)
    return out


def decode_bundle(message: trace_pb2.SpanBundle) -> SpanBundle:
    return SpanBundle(
        process=message.process,
        instance=message.instance,
        spans=tuple(
            RequestSpan(request_ids=tuple(span.request_ids), trace_id=span.trace_id.hex(), span=span.span)
            for span in message.spans
        ),
        dropped=message.dropped,
    )


def bundle_bytes(bundle: SpanBundle) -> bytes:
    """A bundle as it crosses the mesh."""
    return encode_bundle(bundle).SerializeToString()


def read_bundle(body: bytes) -> SpanBundle:
    """Raises MalformedMessage."""
    message = trace_pb2.SpanBundle()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise MalformedMessage("spans", "is not a SpanBundle") from None
    return decode_bundle(message)


# AdminService.


def encode_list_traces(limit: int, failed_only: bool) -> admin_pb2.ListTracesRequest:
    return admin_pb2.ListTracesRequest(limit=limit, failed_only=failed_only)


def decode_list_traces(message: admin_pb2.ListTracesRequest) -> tuple[int, bool]:
    """(limit, failed_only); the limit as it was sent."""
    return message.limit, message.failed_only


def traces_response(found: TraceList) -> admin_pb2.ListTracesResponse:
    memory = found.memory
    return admin_pb2.ListTracesResponse(
        traces=map(_encode_summary, found.traces),
        memory=admin_pb2.TraceMemory(
            requests=memory.requests,
            bytes=memory.bytes,
            max_bytes=memory.max_bytes,
            dropped_spans=memory.dropped_spans,
            on=memory.on,
        ),
    )


def decode_traces_response(message: admin_pb2.ListTracesResponse) -> TraceList:
    memory = message.memory
    return TraceList(
        traces=tuple(map(_decode_summary, message.traces)),
        memory=TraceMemory(
            requests=memory.requests,
            bytes=memory.bytes,
            max_bytes=memory.max_bytes,
            dropped_spans=memory.dropped_spans,
            on=memory.on,
        ),
    )


def encode_get_trace(wanted: str) -> admin_pb2.GetTraceRequest:
    return admin_pb2.GetTraceRequest(id=wanted)


def decode_get_trace(message: admin_pb2.GetTraceRequest) -> str:
    return message.id


def trace_response(found: RequestTrace) -> admin_pb2.GetTraceResponse:
    return admin_pb2.GetTraceResponse(
        causes=found.causes,
        summary=_encode_summary(found.summary),
        spans=map(encode_span, found.spans),
        others=found.others,
    )


def decode_trace_response(message: admin_pb2.GetTraceResponse) -> RequestTrace:
    return RequestTrace(
        causes=tuple(message.causes),
        summary=_decode_summary(message.summary),
        spans=tuple(map(decode_span, message.spans)),
        others=tuple(message.others),
    )


def _encode_summary(summary: TraceSummary) -> admin_pb2.TraceSummary:
    return admin_pb2.TraceSummary(
        request_id=summary.request_id,
        trace_id=summary.trace_id,
        started=encode_timestamp(summary.started_s),
        duration=encode_duration(summary.duration_s),
        model=summary.model,
        tenant=summary.tenant,
        priority=summary.priority,
        outcome=summary.outcome,
        error=summary.error,
        spans=summary.spans,
        cause=summary.cause,
    )


def _decode_summary(message: admin_pb2.TraceSummary) -> TraceSummary:
    return TraceSummary(
        request_id=message.request_id,
        trace_id=message.trace_id,
        started_s=decode_timestamp(message.started),
        duration_s=decode_duration(message.duration),
        model=message.model,
        tenant=message.tenant,
        priority=message.priority,
        outcome=message.outcome,
        error=message.error,
        spans=message.spans,
        cause=message.cause,
    )
