"""The router's spans of one request. Recorded after the fact where they can be.

Never any content in them, unless it is captured for the tenant (`capture`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from headrace.contract.requests import Request
from headrace.contract.values import Outcome, OutcomeKind, Priority, QueuePosition, TraceContext
from headrace.router.capture import Capture
from headrace.router.ledger import Record
from headrace.router.waits import Waits
from headrace.runtime import trace_names as names
from headrace.runtime.propagation import as_parent, as_root, record_span, trace_of

NS = 1_000_000_000


class RouterSpans:
    """Records what happens to a request at the router. With tracing off, or for what is not sampled, it does next to
    nothing.
    """

    def __init__(self, tracer: Tracer, router_id: str, *, waits: Waits, capture: Capture) -> None:
        self._tracer = tracer
        self._router_id = router_id
        self._waits = waits
        self._capture = capture

    def begin(self, record: Record, parent: TraceContext, consumer: str) -> None:
        """The router has a request: its hold begins, and the wait in the broker is known."""
        pulled_ns = time.time_ns()
        accepted_ns = round(record.accepted_s * NS)
        request = record.request
        record.span = self._tracer.start_span(
            names.SPAN_PROCESS_REQUEST,
            context=as_parent(parent) if parent.traceparent else as_root(f"{record.tenant}.{record.id}"),
            kind=SpanKind.CONSUMER,
            start_time=min(accepted_ns, pulled_ns),
        )
        record.trace = trace_of(record.span, parent)
        if not record.span.is_recording():
            return
        record.span.set_attributes(
            {
                names.MESSAGING_SYSTEM: names.SYSTEM_NATS,
                names.MESSAGING_OPERATION_NAME: "process",
                names.MESSAGING_OPERATION_TYPE: "process",
                names.MESSAGING_DESTINATION_TEMPLATE: names.SPAN_PROCESS_REQUEST.partition(" ")[2],
                names.MESSAGING_CONSUMER_GROUP_NAME: consumer,
                names.MESSAGING_MESSAGE_ID: request.id,
                names.ROUTER: self._router_id,
                names.DELIVERIES: record.message.metadata.num_delivered,
                **_about(request),
            }
        )
        if request.deadline_s is not None:
            record.span.set_attribute(names.DEADLINE_S, round(request.deadline_s - record.accepted_s, 3))
        self._record(record, names.SPAN_QUEUE, accepted_ns, pulled_ns, {names.ROUTER: self._router_id})

    def claimed(self, record: Record, *, handed: bool) -> None:
        """Another router had it, and handed it over or is gone."""
        record.span.add_event(
            names.EVENT_CLAIMED,
            {
                names.DELIVERIES: record.message.metadata.num_delivered,
                names.REASON: "the other router gave it back" if handed else "the other router is gone",
            },
        )

    def held(self, record: Record) -> None:
        """It is checked and tokenised; from now on it waits for a lane."""
        if not record.span.is_recording():
            return
        record.span.set_attribute(names.OUTPUT_LIMIT, record.max_tokens)
        now_ns = time.time_ns()
        self._record(record, names.SPAN_INTAKE, round(record.waiting_since_s * NS), now_ns)
        record.waiting_since_s = now_ns / NS

    def placed(self, record: Record, place: QueuePosition) -> None:
        """It has its place among those that wait here."""
        record.span.add_event(
            names.EVENT_HELD,
            {names.QUEUE_POSITION: place.ahead, names.RESUMED_TOKENS: record.next_index},
        )

    def scheduled(self, record: Record, *, batch: int, worker: str, lane: int, size: int) -> None:
        """A lane took it: the wait at the router is known."""
        if not record.span.is_recording():
            return
        # The first time, what it waited for began in the broker.
        since_s = record.waiting_since_s if record.attempts > 1 else record.accepted_s
        self._record(
            record,
            names.SPAN_SCHEDULE,
            round(record.waiting_since_s * NS),
            time.time_ns(),
            {
                names.ATTEMPT: record.attempts,
                names.BATCH_ID: batch,
                names.BATCH_SIZE: size,
                names.WORKER: worker,
                names.ROUTER: self._router_id,
                names.LANE: lane,
                names.RESUMED_TOKENS: len(record.tokens),
                **self._waits.facts(record, since_s),
            },
        )

    def requeued(self, record: Record, reason: str, *, worker: str, code: str) -> None:
        """It waits again. `code` is that of the engine's failure, if it was one: its text is not ours."""
        record.span.add_event(
            names.EVENT_REQUEUED,
            {
                names.REASON: "its engine failed" if code else reason,
                names.LOST_WORKER: worker,
                names.RESUMED_TOKENS: len(record.tokens),
                **({names.ERROR_TYPE: code} if code else {}),
            },
        )

    def paused(self, records: Iterable[Record], by: Priority | None) -> None:
        """Their batch stands still."""
        for record in records:
            record.span.add_event(
                names.EVENT_PAUSED, {names.PAUSED_BY: by.label if by is not None else "unknown"}
            )

    def resumed(self, records: Iterable[Record]) -> None:
        """Their batch goes on."""
        for record in records:
            record.span.add_event(names.EVENT_RESUMED)

    def regrouped(self, record: Record) -> None:
        """It goes on in a larger batch."""
        record.span.add_event(names.EVENT_REGROUPED, {names.RESUMED_TOKENS: len(record.tokens)})

    def delivered(self, record: Record) -> None:
        """Its tokens went to the consumer, from the first to the last."""
        if record.first_token_s is not None:
            self._record(
                record,
                names.SPAN_DELIVER,
                round(record.first_token_s * NS),
                time.time_ns(),
                {names.GEN_AI_USAGE_OUTPUT_TOKENS: len(record.tokens)},
            )

    @contextmanager
    def storing(self, record: Record, size: int) -> Iterator[Span]:
        """Around the publishing of its outcome."""
        span = self._tracer.start_span(
            names.SPAN_SEND_RESULT,
            context=as_parent(record.trace),
            kind=SpanKind.PRODUCER,
            attributes={
                names.MESSAGING_SYSTEM: names.SYSTEM_NATS,
                names.MESSAGING_OPERATION_NAME: "send",
                names.MESSAGING_OPERATION_TYPE: "send",
                names.MESSAGING_DESTINATION_TEMPLATE: names.SPAN_SEND_RESULT.partition(" ")[2],
                names.MESSAGING_MESSAGE_ID: record.id,
                names.MESSAGING_MESSAGE_BODY_SIZE: size,
                names.REQUEST_ID: record.id,
            },
        )
        try:
            yield span
        finally:
            span.end()

    def end(self, record: Record, outcome: Outcome) -> None:
        """It is settled."""
        span = record.span
        if not span.is_recording():
            return
        attributes: dict[str, AttributeValue] = {
            names.OUTCOME: outcome.kind.value,
            names.GEN_AI_USAGE_INPUT_TOKENS: outcome.usage.prompt_tokens,
            names.GEN_AI_USAGE_OUTPUT_TOKENS: outcome.usage.output_tokens,
        }
        if record.first_token_s is not None:
            attributes[names.FIRST_TOKEN_S] = round(record.first_token_s - record.accepted_s, 3)
        if outcome.finish_reason is not None:
            attributes[names.GEN_AI_RESPONSE_FINISH_REASONS] = [outcome.finish_reason.value]
        if outcome.failure is not None:
            attributes[names.ERROR_TYPE] = outcome.failure.code
        if record.attempts == 0:
            attributes.update(self._waits.facts(record, record.accepted_s))
        if self._capture.wants(record.tenant):
            attributes[names.CAPTURED_PROMPT] = self._capture.prompt(record.request)
            attributes[names.CAPTURED_OUTPUT] = self._capture.output(outcome.text)
        span.set_attributes(attributes)
        if outcome.kind is OutcomeKind.FAILED:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def release(self, record: Record) -> None:
        """It goes back to its queue."""
        record.span.add_event(names.EVENT_RELEASED)
        record.span.end()

    def let_go(self, record: Record, reason: str) -> None:
        """It is another router's, or to be delivered again."""
        record.span.add_event(names.EVENT_LET_GO, {names.REASON: reason})
        record.span.end()

    def _record(
        self,
        record: Record,
        name: str,
        start_ns: int,
        end_ns: int,
        attributes: dict[str, AttributeValue] | None = None,
    ) -> None:
        record_span(
            self._tracer,
            name,
            parent=record.trace,
            start_ns=start_ns,
            end_ns=end_ns,
            attributes={names.REQUEST_ID: record.id, **(attributes or {})},
        )


def _about(request: Request) -> dict[str, str | int | float]:
    return {
        names.REQUEST_ID: request.id,
        names.TENANT: request.tenant,
        names.PRIORITY: request.priority.label,
        names.GEN_AI_OPERATION_NAME: names.operation_of(request.task.value),
        names.GEN_AI_PROVIDER_NAME: names.PROVIDER_HEADRACE,
        names.GEN_AI_REQUEST_MODEL: request.model,
        names.GEN_AI_REQUEST_MAX_TOKENS: request.max_tokens,
        names.GEN_AI_REQUEST_TEMPERATURE: request.sampling.temperature,
    }
