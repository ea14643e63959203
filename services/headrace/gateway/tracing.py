"""What the gateway's spans say of a request. Never its content."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Tracer
from opentelemetry.util.types import AttributeValue

from headrace.contract.inference_wire import Attachment
from headrace.contract.requests import Request
from headrace.contract.subjects import Queue
from headrace.contract.values import Outcome, QueuePosition, TraceContext
from headrace.runtime import trace_names as names
from headrace.runtime.propagation import as_parent, current_trace, record_span, trace_of


def describe_request(request: Request, *, stream: bool) -> None:
    """Writes what is asked for on the call's span."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    span.set_attributes(
        {
            names.GEN_AI_OPERATION_NAME: names.operation_of(request.task.value),
            names.GEN_AI_PROVIDER_NAME: names.PROVIDER_HEADRACE,
            names.GEN_AI_REQUEST_MODEL: request.model,
            names.GEN_AI_REQUEST_MAX_TOKENS: request.max_tokens,
            names.GEN_AI_REQUEST_TEMPERATURE: request.sampling.temperature,
            names.GEN_AI_REQUEST_TOP_P: request.sampling.top_p,
            names.GEN_AI_REQUEST_TOP_K: request.sampling.top_k,
            names.GEN_AI_REQUEST_STREAM: stream,
            names.REQUEST_ID: request.id,
            names.TENANT: request.tenant,
            names.PRIORITY: request.priority.label,
            **(
                {names.GATEWAY: request.gateway} if request.gateway else {}
            ),  # not of one that nobody waits for
        }
    )


def describe_attachment(wanted: Attachment) -> None:
    """Writes which request a client attaches to on the call's span."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes({names.REQUEST_ID: wanted.request_id, names.TENANT: wanted.tenant})


def describe_position(position: QueuePosition) -> None:
    """Writes the place that an accepted request took on the call's span."""
    trace.get_current_span().set_attribute(names.QUEUE_POSITION, position.ahead)


def describe_outcome(outcome: Outcome) -> None:
    """Writes how the request ended on the call's span."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    attributes: dict[str, AttributeValue] = {
        names.OUTCOME: outcome.kind.value,
        names.GEN_AI_RESPONSE_ID: outcome.request_id,
        names.GEN_AI_USAGE_INPUT_TOKENS: outcome.usage.prompt_tokens,
        names.GEN_AI_USAGE_OUTPUT_TOKENS: outcome.usage.output_tokens,
    }
    if outcome.model:
        attributes[names.GEN_AI_RESPONSE_MODEL] = outcome.model
    if outcome.finish_reason is not None:
        attributes[names.GEN_AI_RESPONSE_FINISH_REASONS] = [outcome.finish_reason.value]
    if outcome.failure is not None:
        attributes[names.ERROR_TYPE] = outcome.failure.code
    span.set_attributes(attributes)


@contextmanager
def send_span(tracer: Tracer, request: Request, queue: Queue, body: bytes) -> Iterator[TraceContext]:
    """A PRODUCER span around a publish; gives the context to send along.

    With telemetry off that is what the client sent, unchanged.
    """
    parent = current_trace()
    with tracer.start_as_current_span(
        names.SPAN_SEND_REQUEST,
        context=as_parent(parent),
        kind=SpanKind.PRODUCER,
        attributes={
            names.MESSAGING_SYSTEM: names.SYSTEM_NATS,
            names.MESSAGING_OPERATION_NAME: "send",
            names.MESSAGING_OPERATION_TYPE: "send",
            names.MESSAGING_DESTINATION_NAME: queue.subject,
            names.MESSAGING_DESTINATION_TEMPLATE: names.SPAN_SEND_REQUEST.removeprefix("send "),
            names.MESSAGING_MESSAGE_ID: request.id,
            names.MESSAGING_MESSAGE_BODY_SIZE: len(body),
            names.REQUEST_ID: request.id,
        },
        record_exception=False,  # an exception's text belongs in no trace
        set_status_on_exception=False,
    ) as span:
        yield trace_of(span, parent)


SLOW_LOOK_S = 0.05
"""A look at the broker that took longer is worth a span: most take a millisecond."""


@contextmanager
def look_span(tracer: Tracer, request: Request) -> Iterator[None]:
    """Around the look for an outcome that the request's id has: a CLIENT span, where it takes its time."""
    began_ns = time.time_ns()
    try:
        yield
    finally:
        ended_ns = time.time_ns()
        if ended_ns - began_ns >= SLOW_LOOK_S * 1e9:
            record_span(
                tracer,
                names.SPAN_FIND_RESULT,
                parent=current_trace(),
                start_ns=began_ns,
                end_ns=ended_ns,
                kind=SpanKind.CLIENT,
                attributes={names.MESSAGING_SYSTEM: names.SYSTEM_NATS, names.REQUEST_ID: request.id},
            )
