"""What a trace tells about a batch. Recorded on the event loop; with tracing off nothing here is called.

One `batch` span, in the trace of the first entry's request that is sampled and linked to the holds of all of them; and
for each entry a `generate` span, or one named for its task, in the trace of its own request, linked to the batch. No
attribute holds a prompt or an output. Nothing is done per token: what was shared is counted per step, by the batch.
"""

from __future__ import annotations

import time

from opentelemetry.trace import Link, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from headrace.contract.values import Task, TraceContext
from headrace.contract.work import BatchEntry, EntryEnd, StartBatch
from headrace.runtime import trace_names as names
from headrace.runtime.propagation import as_parent, links_to, record_span, trace_of


class BatchTrace:
    """The span of one batch. `end` ends it.

    `tokens` counts what all its entries have made: written by the batch, once per step.
    """

    def __init__(self, tracer: Tracer, start: StartBatch, worker_id: str, task: Task = Task.GENERATE) -> None:
        """`task` is what its model is for."""
        self.tokens = 0
        self.operation = names.operation_of(task.value)
        self._tracer = tracer
        self._started_ns = time.time_ns()
        contexts = [_tokens(entry) + len(entry.generated) for entry in start.entries]
        self._shared: dict[str, AttributeValue] = {
            names.BATCH_ID: start.batch,
            names.BATCH_SIZE: len(start.entries),
            names.BATCH_PROMPT_TOKENS: sum(contexts),
            names.BATCH_LONGEST_PROMPT: max(contexts),
            names.LANE: start.lane,
            names.WORKER: worker_id,
            names.MODEL: start.model,
        }
        # The first whose trace is recorded: the batch of one that is sampled is told.
        sampled = (entry.trace for entry in start.entries if entry.trace.sampled)
        parent = next(sampled, start.entries[0].trace)
        self._span = tracer.start_span(
            names.SPAN_BATCH,
            context=as_parent(parent),
            attributes=self._shared,
            links=_links(start),
            start_time=self._started_ns,
        )
        self._context = trace_of(self._span, parent)
        self._paused_ns = 0
        self._paused_s = 0.0
        self._pauses = 0

    @property
    def started_ns(self) -> int:
        return self._started_ns

    @property
    def context(self) -> TraceContext:
        return self._context

    @property
    def shared(self) -> dict[str, AttributeValue]:
        """What every entry's span says of the batch."""
        return self._shared

    @property
    def pauses(self) -> tuple[int, float]:
        """How often it was paused, and for how many seconds in all, until now."""
        since_s = (time.time_ns() - self._paused_ns) / 1e9 if self._paused_ns else 0.0
        return self._pauses, self._paused_s + since_s

    def entry(self, entry: BatchEntry) -> EntryTrace:
        """The trace of one of its entries, from now on."""
        return EntryTrace(self._tracer, entry, self)

    def pause(self) -> None:
        """It stands still."""
        if not self._paused_ns:
            self._paused_ns = time.time_ns()
            self._pauses += 1
            self._span.add_event(names.EVENT_PAUSED)

    def resume(self) -> None:
        """It goes on."""
        if self._paused_ns:
            _, self._paused_s = self.pauses
            self._paused_ns = 0
            self._span.add_event(names.EVENT_RESUMED)

    def end(self, error: str = "") -> None:
        """`error`: the code of what the engine failed with."""
        self.resume()
        if self._pauses:
            self._span.set_attributes({names.PAUSES: self._pauses, names.PAUSED_S: round(self._paused_s, 3)})
        if error:
            self._span.set_attribute(names.ERROR_TYPE, error)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class EntryTrace:
    """The spans of one entry: `{operation} {model}` over `first token` and `stream`, recorded when it ends."""

    def __init__(self, tracer: Tracer, entry: BatchEntry, batch: BatchTrace) -> None:
        self._tracer = tracer
        self._entry = entry
        self._batch = batch
        self._tokens = _tokens(entry)
        self._first_ns = 0
        self._paused_before = (0, 0.0)

    def first_token(self) -> None:
        """Its first token is there."""
        self._first_ns = time.time_ns()
        self._paused_before = self._batch.pauses

    def end(self, end: EntryEnd, made: int) -> None:
        """Records everything, `made` tokens having come of it. Once."""
        end_ns = time.time_ns()
        started_ns = self._batch.started_ns
        model = str(self._batch.shared[names.MODEL])
        span = self._tracer.start_span(
            names.generate_span(model, self._batch.operation),
            context=as_parent(self._entry.trace),
            start_time=started_ns,
        )
        if not span.is_recording():
            return
        span.set_attributes({**self._batch.shared, **self._described(end, made)})
        for link in links_to((self._batch.context,)):
            span.add_link(link.context)
        if end.failure is not None:
            span.set_status(StatusCode.ERROR)
        parent = trace_of(span, self._entry.trace)
        if self._first_ns:
            before, paused = self._paused_before, self._batch.pauses
            self._record(names.SPAN_FIRST_TOKEN, parent, started_ns, self._first_ns, before)
            during = (paused[0] - before[0], paused[1] - before[1])
            self._record(names.SPAN_STREAM, parent, self._first_ns, end_ns, during)
        span.end(end_time=end_ns)

    def _record(
        self, name: str, parent: TraceContext, start_ns: int, end_ns: int, paused: tuple[int, float]
    ) -> None:
        attributes: dict[str, AttributeValue] = {names.REQUEST_ID: self._entry.request_id}
        if paused[1] > 0:
            attributes |= {names.PAUSES: paused[0], names.PAUSED_S: round(paused[1], 3)}
        record_span(
            self._tracer, name, parent=parent, start_ns=start_ns, end_ns=end_ns, attributes=attributes
        )

    def _described(self, end: EntryEnd, made: int) -> dict[str, AttributeValue]:
        entry = self._entry
        pauses, paused_s = self._batch.pauses
        attributes: dict[str, AttributeValue] = {
            names.GEN_AI_OPERATION_NAME: self._batch.operation,
            names.GEN_AI_PROVIDER_NAME: names.PROVIDER_HEADRACE,
            names.GEN_AI_REQUEST_MODEL: self._batch.shared[names.MODEL],
            names.GEN_AI_REQUEST_MAX_TOKENS: entry.max_tokens,
            names.GEN_AI_USAGE_INPUT_TOKENS: self._tokens,
            names.GEN_AI_USAGE_OUTPUT_TOKENS: made,
            names.CONTEXT_TOKENS: self._tokens + len(entry.generated),
            names.STEPS: made,
            # All of a batch begin together, so what all have made so far was made in steps that this one shared.
            names.STEPS_SHARED: round(max(0.0, self._batch.tokens / made - 1), 1) if made else 0.0,
            names.REQUEST_ID: entry.request_id,
            names.ATTEMPT: entry.attempt,
            names.RESUMED_TOKENS: len(entry.generated),
        }
        if pauses:
            attributes |= {names.PAUSES: pauses, names.PAUSED_S: round(paused_s, 3)}
        if end.finish_reason is not None:
            attributes[names.GEN_AI_RESPONSE_FINISH_REASONS] = [end.finish_reason.value]
        if end.failure is not None:
            attributes[names.ERROR_TYPE] = end.failure.code
        if end.cancelled:
            attributes[names.OUTCOME] = "cancelled"
        return attributes


def _tokens(entry: BatchEntry) -> int:
    """How many it came with: of its prompt, or of all its texts."""
    return len(entry.prompt) + sum(map(len, entry.texts))


def _links(start: StartBatch) -> list[Link]:
    """To the holds of all its requests, the first one's too: each says whose it is."""
    return [
        Link(link.context, {names.REQUEST_ID: entry.request_id})
        for entry in start.entries
        for link in links_to((entry.trace,))
    ]
