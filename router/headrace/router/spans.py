"""The router's spans of one request. Recorded after the fact where they can be; never any content in them."""

from __future__ import annotations

import time

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

from headrace.contract.requests import Request
from headrace.contract.values import Outcome, OutcomeKind, TraceContext
from headrace.router.ledger import Record
from headrace.runtime import trace_names as names
from headrace.runtime.propagation import as_parent, record_span, trace_of

NS = 1_000_000_000


class RouterSpans:
    """Records what happens to a request at the router."""

    def __init__(self, tracer: Tracer, router_id: str) -> None:
        self._tracer = tracer
        self._router_id = router_id

    def begin(self, record: Record, parent: TraceContext, consumer: str) -> None:
        """The router has a request: its hold begins, and the wait in the broker is known."""
        pulled_ns = time.time_ns()
        accepted_ns = round(record.accepted_s * NS)
        request = record.request
        record.span = self._tracer.start_span(
            names.SPAN_PROCESS_REQUEST,
            context=as_parent(parent),
            kind=SpanKind.CONSUMER,
            start_time=min(accepted_ns, pulled_ns),
            attributes={
                names.MESSAGING_SYSTEM: names.SYSTEM_NATS,
                names.MESSAGING_OPERATION_NAME: "process",
                names.MESSAGING_OPERATION_TYPE: "process",
                names.MESSAGING_DESTINATION_TEMPLATE: names.SPAN_PROCESS_REQUEST.partition(" ")[2],
                names.MESSAGING_CONSUMER_GROUP_NAME: consumer,
                names.MESSAGING_MESSAGE_ID: request.id,
                names.ROUTER: self._router_id,
                **_about(request),
            },
        )
        record.trace = trace_of(record.span, parent)
        record_span(
            self._tracer,
            names.SPAN_QUEUE,
            parent=record.trace,
            start_ns=accepted_ns,
            end_ns=pulled_ns,
            attributes={names.REQUEST_ID: request.id},
        )

    def scheduled(self, record: Record, *, batch: int, worker: str, lane: int, size: int) -> None:
        """A lane took it: the wait at the router is known."""
        record_span(
            self._tracer,
            names.SPAN_SCHEDULE,
            parent=record.trace,
            start_ns=round(record.waiting_since_s * NS),
            end_ns=time.time_ns(),
            attributes={
                names.REQUEST_ID: record.id,
                names.ATTEMPT: record.attempts,
                names.BATCH_ID: batch,
                names.BATCH_SIZE: size,
                names.WORKER: worker,
                names.LANE: lane,
                names.RESUMED_TOKENS: len(record.tokens),
            },
        )

    def requeued(self, record: Record, reason: str) -> None:
        """It waits again."""
        record.span.add_event("requeued", {"reason": reason, names.RESUMED_TOKENS: len(record.tokens)})

    def regrouped(self, record: Record) -> None:
        """It goes on in a larger batch."""
        record.span.add_event("regrouped", {names.RESUMED_TOKENS: len(record.tokens)})

    def delivered(self, record: Record) -> None:
        """Its tokens went to the consumer, from the first to the last."""
        if record.first_token_s is not None:
            record_span(
                self._tracer,
                names.SPAN_DELIVER,
                parent=record.trace,
                start_ns=round(record.first_token_s * NS),
                end_ns=time.time_ns(),
                attributes={
                    names.REQUEST_ID: record.id,
                    names.GEN_AI_USAGE_OUTPUT_TOKENS: len(record.tokens),
                },
            )

    def end(self, record: Record, outcome: Outcome) -> None:
        """It is settled."""
        span = record.span
        span.set_attributes(
            {
                names.OUTCOME: outcome.kind.value,
                names.GEN_AI_USAGE_INPUT_TOKENS: outcome.usage.prompt_tokens,
                names.GEN_AI_USAGE_OUTPUT_TOKENS: outcome.usage.output_tokens,
            }
        )
        if outcome.finish_reason is not None:
            span.set_attribute(names.GEN_AI_RESPONSE_FINISH_REASONS, [outcome.finish_reason.value])
        if outcome.failure is not None:
            span.set_attribute(names.ERROR_TYPE, outcome.failure.code)
        if outcome.kind is OutcomeKind.FAILED:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def release(self, record: Record) -> None:
        """It goes back to its queue."""
        record.span.add_event("released")
        record.span.end()

    def let_go(self, record: Record, reason: str) -> None:
        """It is another router's, or to be delivered again."""
        record.span.add_event("let go", {"reason": reason})
        record.span.end()


def _about(request: Request) -> dict[str, str | int | float]:
    return {
        names.REQUEST_ID: request.id,
        names.TENANT: request.tenant,
        names.PRIORITY: request.priority.label,
        names.GEN_AI_OPERATION_NAME: names.OPERATION_GENERATE,
        names.GEN_AI_PROVIDER_NAME: names.PROVIDER_HEADRACE,
        names.GEN_AI_REQUEST_MODEL: request.model,
        names.GEN_AI_REQUEST_MAX_TOKENS: request.max_tokens,
        names.GEN_AI_REQUEST_TEMPERATURE: request.sampling.temperature,
    }
