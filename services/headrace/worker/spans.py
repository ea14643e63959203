"""What a trace tells about a batch. Recorded on the event loop; with telemetry off nothing here is called.

One `batch` span, in the trace of the first entry's request and linked to the other requests' traces; and for each
entry a `generate` span in the trace of its own request, linked to the batch. No attribute holds a prompt or an
output.
"""

from __future__ import annotations

import time

from opentelemetry.trace import StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from headrace.contract.values import TraceContext
from headrace.contract.work import BatchEntry, EntryEnd, StartBatch
from headrace.runtime import trace_names as names
from headrace.runtime.propagation import as_parent, links_to, record_span, trace_of


class BatchTrace:
    """The span of one batch. `end` ends it."""

    def __init__(self, tracer: Tracer, start: StartBatch, worker_id: str) -> None:
        self._tracer = tracer
        self._started_ns = time.time_ns()
        self._attributes: dict[str, AttributeValue] = {
            names.BATCH_ID: start.batch,
            names.LANE: start.lane,
            names.WORKER: worker_id,
            names.MODEL: start.model,
        }
        parent = start.entries[0].trace
        self._span = tracer.start_span(
            names.SPAN_BATCH,
            context=as_parent(parent),
            attributes={**self._attributes, names.BATCH_SIZE: len(start.entries)},
            links=links_to(entry.trace for entry in start.entries[1:]),
            start_time=self._started_ns,
        )
        self._context = trace_of(self._span, parent)

    def entry(self, entry: BatchEntry) -> EntryTrace:
        """The trace of one of its entries, from now on."""
        return EntryTrace(
            self._tracer, entry, self._context, started_ns=self._started_ns, attributes=self._attributes
        )

    def end(self, error: str = "") -> None:
        """`error`: the code of what the engine failed with."""
        if error:
            self._span.set_attribute(names.ERROR_TYPE, error)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class EntryTrace:
    """The spans of one entry: `generate {model}` over `first token` and `stream`, recorded when it ends."""

    def __init__(
        self,
        tracer: Tracer,
        entry: BatchEntry,
        batch: TraceContext,
        *,
        started_ns: int,
        attributes: dict[str, AttributeValue],
    ) -> None:
        self._tracer = tracer
        self._entry = entry
        self._batch = batch
        self._started_ns = started_ns
        self._attributes = attributes
        self._first_ns = 0
        self._made = 0

    def token(self) -> None:
        """One more token is there."""
        self._made += 1
        if not self._first_ns:
            self._first_ns = time.time_ns()

    def end(self, end: EntryEnd) -> None:
        """Records everything. Once."""
        end_ns = time.time_ns()
        span = self._tracer.start_span(
            names.generate_span(str(self._attributes[names.MODEL])),
            context=as_parent(self._entry.trace),
            attributes={**self._attributes, **self._described(end)},
            links=links_to((self._batch,)),
            start_time=self._started_ns,
        )
        if end.failure is not None:
            span.set_status(StatusCode.ERROR)
        parent = trace_of(span, self._entry.trace)
        if self._first_ns:
            record_span(
                self._tracer,
                names.SPAN_FIRST_TOKEN,
                parent=parent,
                start_ns=self._started_ns,
                end_ns=self._first_ns,
            )
            record_span(
                self._tracer,
                names.SPAN_STREAM,
                parent=parent,
                start_ns=self._first_ns,
                end_ns=end_ns,
                attributes={names.GEN_AI_USAGE_OUTPUT_TOKENS: self._made},
            )
        span.end(end_time=end_ns)

    def _described(self, end: EntryEnd) -> dict[str, AttributeValue]:
        entry = self._entry
        attributes: dict[str, AttributeValue] = {
            names.GEN_AI_OPERATION_NAME: names.OPERATION_GENERATE,
            names.GEN_AI_PROVIDER_NAME: names.PROVIDER_HEADRACE,
            names.GEN_AI_REQUEST_MODEL: self._attributes[names.MODEL],
            names.GEN_AI_REQUEST_MAX_TOKENS: entry.max_tokens,
            names.GEN_AI_USAGE_INPUT_TOKENS: len(entry.prompt),
            names.GEN_AI_USAGE_OUTPUT_TOKENS: self._made,
            names.REQUEST_ID: entry.request_id,
            names.ATTEMPT: entry.attempt,
            names.RESUMED_TOKENS: len(entry.generated),
        }
        if end.finish_reason is not None:
            attributes[names.GEN_AI_RESPONSE_FINISH_REASONS] = [end.finish_reason.value]
        if end.failure is not None:
            attributes[names.ERROR_TYPE] = end.failure.code
        if end.cancelled:
            attributes[names.OUTCOME] = "cancelled"
        return attributes
