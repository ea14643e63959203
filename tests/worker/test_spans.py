"""What a trace tells about a batch."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from headrace.contract.values import FinishReason, Task, TraceContext
from headrace.contract.work import EntryEnd
from headrace.models.fake import install_fake_model
from headrace.models.store import ModelStore
from headrace.runtime import trace_names as names
from headrace.worker.fake_engine import FAIL_AT_ONCE
from headrace.worker.spans import BatchTrace
from tests.otlp_receiver import OtlpReceiver
from tests.worker.conftest import WorkerFor
from tests.worker.fake_router import FakeRouter
from tests.worker.tiny_model import batch, entry

REQUESTS = [
    TraceContext(traceparent=f"00-{digit * 32}-{digit * 16}-01", tracestate="") for digit in ("a", "b")
]
SECRET = b"headrace-secret"


@pytest.mark.parametrize(
    ("task", "operation"),
    [(Task.GENERATE, "generate"), (Task.EMBED, "embeddings"), (Task.TRANSLATE, "translate")],
)
def test_an_attempt_is_named_for_its_task(task: Task, operation: str) -> None:
    """By the conventions' word where they have one."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    texts = ((65, 66), (65,)) if task is Task.EMBED else ()
    asked = entry(1, () if texts else (65, 66, 67), trace=REQUESTS[0], texts=texts)
    trace = BatchTrace(provider.get_tracer("worker"), batch(7, asked, model="m"), "w", task)
    trace.entry(asked).end(EntryEnd(finish_reason=FinishReason.END), 0)
    trace.end()
    attempt, _ = exporter.get_finished_spans()
    assert attempt.name == f"{operation} m"
    assert attempt.attributes is not None
    assert attempt.attributes[names.GEN_AI_OPERATION_NAME] == operation
    assert attempt.attributes[names.GEN_AI_USAGE_INPUT_TOKENS] == 3


@pytest.mark.integration
async def test_each_request_s_trace_tells_of_its_attempt(
    router: FakeRouter, store: ModelStore, worker_for: WorkerFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`generate` is a child of the request's span, over `first token` and `stream`, and linked to the batch; no
    content.
    """
    install_fake_model(store)
    async with OtlpReceiver() as receiver:
        for name, value in receiver.environment().items():
            monkeypatch.setenv(name, value)
        async with worker_for(router.address, **{"worker.name": "w1"}):
            stream = await router.stream()
            await stream.run(
                batch(
                    7,
                    entry(1, tuple(SECRET), 5, trace=REQUESTS[0]),
                    entry(2, tuple(SECRET), 3, trace=REQUESTS[1], generated=(101, 102), stop=("zzz",)),
                )
            )
            await stream.run(batch(8, entry(3, (*SECRET, FAIL_AT_ONCE), 5, trace=REQUESTS[0])))
        spans = await receiver.wait_for(lambda spans: len(spans) >= 9)
        told = receiver.payload

    (first, failed) = sorted(receiver.named("batch"), key=lambda span: span.attributes["headrace.batch.id"])
    assert (first.trace_id, first.parent_id) == ("a" * 32, "a" * 16)
    assert first.links == (("a" * 32, "a" * 16), ("b" * 32, "b" * 16))
    assert first.attributes["headrace.batch.size"] == 2
    assert first.attributes["headrace.worker"] == "w1"
    assert failed.status == "ERROR"
    attempts = {span.attributes["headrace.request.id"]: span for span in receiver.named("generate fake")}
    for number, trace in ((1, "a"), (2, "b")):
        attempt = attempts[f"request-{number}"]
        assert (attempt.trace_id, attempt.parent_id) == (trace * 32, trace * 16)
        assert attempt.links == ((first.trace_id, first.span_id),)
        children = sorted(
            (span for span in spans if span.parent_id == attempt.span_id), key=lambda span: span.name
        )
        assert [child.name for child in children] == ["first token", "stream"]
        assert children[0].start_ns == attempt.start_ns
        assert children[0].end_ns == children[1].start_ns <= children[1].end_ns == attempt.end_ns
    assert attempts["request-1"].attributes["gen_ai.usage.output_tokens"] == 5
    assert attempts["request-1"].attributes["gen_ai.usage.input_tokens"] == len(SECRET)
    assert attempts["request-1"].attributes["gen_ai.response.finish_reasons"] == ["length"]
    assert attempts["request-2"].attributes["headrace.resumed_tokens"] == 2
    assert attempts["request-2"].attributes["gen_ai.usage.output_tokens"] == 1
    assert attempts["request-3"].status == "ERROR"
    assert attempts["request-3"].attributes["error.type"] == "ENGINE_FAILED"
    assert SECRET not in told
    assert stream.heard[1].text.encode() not in told
