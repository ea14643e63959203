"""Trace context across the hops: W3C `traceparent` and `tracestate` in NATS headers, gRPC metadata, our messages.

The value that travels is `contract.values.TraceContext`, two strings. It is passed on whether or not this process
records spans, so that a hop with telemetry off never cuts a trace in two:

    parent = extract(message.headers)
    with telemetry.tracer.start_as_current_span(name, context=as_parent(parent)) as span:
        inject(trace_of(span, parent), headers)     # the span's own context, or `parent` unchanged when off

A malformed `traceparent` is as none at all: a new trace begins, and nobody gets an error.

Source: https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from hashlib import blake2b

from opentelemetry import trace
from opentelemetry.context import Context, create_key, get_value, set_value
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    TraceState,
    format_span_id,
    format_trace_id,
)
from opentelemetry.util.types import Attributes

from headrace.contract.values import NO_TRACE, TraceContext

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<span>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-[!-~]*)?"
)
# Visible ASCII only: a line break in a value that goes into a NATS header would forge another header.
_TRACESTATE = re.compile(r"[ -~\t]{0,512}")
_TRACEPARENT_LIMIT = 128
_ROOT = create_key("headrace.root")


def parse(traceparent: str, tracestate: str = "") -> TraceContext:
    """The context that two header values carry; NO_TRACE where `traceparent` is malformed.

    A malformed or over-long `tracestate` is dropped alone.
    """
    traceparent = traceparent.strip()
    if _match(traceparent) is None:
        return NO_TRACE
    state = tracestate.strip() if _TRACESTATE.fullmatch(tracestate) else ""
    return TraceContext(traceparent=traceparent, tracestate=state)


def _match(traceparent: str) -> re.Match[str] | None:
    if len(traceparent) > _TRACEPARENT_LIMIT:
        return None
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is not None and found["version"] == "00" and found["more"]:
        return None
    return found


def extract(headers: Mapping[str, str] | None) -> TraceContext:
    """The context in NATS headers. Names match in any case: other clients write `Traceparent`."""
    if not headers:
        return NO_TRACE
    return _find(headers.items())


def extract_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> TraceContext:
    """The context in the metadata of a gRPC call."""
    return NO_TRACE if metadata is None else _find(metadata)


def _find(pairs: Iterable[tuple[str, str | bytes]]) -> TraceContext:
    traceparents: list[str] = []
    tracestates: list[str] = []
    for name, value in pairs:
        if isinstance(value, str) and len(name) == len(
            TRACEPARENT
        ):  # `tracestate` has 10, `traceparent` 11 letters
            if name.lower() == TRACEPARENT:
                traceparents.append(value)
        elif isinstance(value, str) and name.lower() == TRACESTATE:
            tracestates.append(value)
    # Two parents are as malformed as none; several tracestate headers are one list (RFC 9110).
    return parse(traceparents[0], ",".join(tracestates)) if len(traceparents) == 1 else NO_TRACE


def inject(context: TraceContext, headers: MutableMapping[str, str]) -> None:
    """Writes `context` into NATS headers, in place of whatever they carried before."""
    for name in [name for name in headers if name.lower() in (TRACEPARENT, TRACESTATE)]:
        del headers[name]
    headers.update(metadata_of(context))


def metadata_of(context: TraceContext) -> tuple[tuple[str, str], ...]:
    """`context` as gRPC metadata: none, one or two pairs."""
    if not context.traceparent:
        return ()
    if not context.tracestate:
        return ((TRACEPARENT, context.traceparent),)
    return ((TRACEPARENT, context.traceparent), (TRACESTATE, context.tracestate))


def as_parent(context: TraceContext) -> Context:
    """`context` as the `context=` of `start_span`. Empty, so that a new trace begins, where there is none."""
    span_context = _span_context(context)
    if span_context is None:
        return Context()
    return trace.set_span_in_context(NonRecordingSpan(span_context), Context())


def as_root(name: str) -> Context:
    """The `context=` of a `start_span` that begins the trace of `name`, a request that came without one: whoever begins
    it anew, after the loss of a process, goes on with the same trace, and samples it alike.
    """
    return set_value(_ROOT, int.from_bytes(blake2b(name.encode(), digest_size=16).digest()) or 1, Context())


def root_of(context: Context | None) -> int | None:
    """The id of the trace that `as_root` asks for."""
    wanted = None if context is None else get_value(_ROOT, context)
    return wanted if isinstance(wanted, int) else None


def links_to(contexts: Iterable[TraceContext]) -> list[Link]:
    """Links to the traces of `contexts`; those that carry none are left out."""
    found = (_span_context(context) for context in contexts)
    return [Link(span_context) for span_context in found if span_context is not None]


def _span_context(context: TraceContext) -> SpanContext | None:
    found = _match(context.traceparent)
    if found is None:
        return None
    return SpanContext(
        trace_id=int(found["trace"], 16),
        span_id=int(found["span"], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(found["flags"], 16)),
        trace_state=TraceState.from_header([context.tracestate]) if context.tracestate else TraceState(),
    )


def trace_of(span: Span, otherwise: TraceContext = NO_TRACE) -> TraceContext:
    """What the next hop is told: the context of `span`, or `otherwise`, letter for letter, where it records nothing."""
    own = span.get_span_context()
    if not own.is_valid:
        return otherwise
    if not span.is_recording() and otherwise.traceparent and own == _span_context(otherwise):
        return otherwise  # telemetry is off: the parent passes through unchanged
    return TraceContext(
        traceparent=f"00-{format_trace_id(own.trace_id)}-{format_span_id(own.span_id)}-{own.trace_flags:02x}",
        tracestate=own.trace_state.to_header() if own.trace_state else "",
    )


def current_trace() -> TraceContext:
    """The context of the span that is current here; in a gRPC handler that of the call, also with telemetry off."""
    return trace_of(trace.get_current_span())


def record_span(
    tracer: Tracer,
    name: str,
    *,
    parent: TraceContext,
    start_ns: int,
    end_ns: int,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes = None,
    links: Iterable[TraceContext] = (),
) -> TraceContext:
    """Records a span after the fact, between two points in time (ns since 1970), and gives its context back.

    With telemetry off it does nothing and gives `parent` back. A start after the end is pulled back to it: the two may
    come from the clocks of two machines.
    """
    span = tracer.start_span(
        name,
        context=as_parent(parent),
        kind=kind,
        attributes=attributes,
        links=links_to(links),
        start_time=min(start_ns, end_ns),
    )
    span.end(end_time=end_ns)
    return trace_of(span, parent)
