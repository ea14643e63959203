"""One trace through all processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from headrace.client.client import HeadraceClient
from headrace.contract.values import Outcome
from tests.integration.processes import Processes
from tests.otlp_receiver import OtlpReceiver, ReceivedSpan

pytestmark = pytest.mark.integration

SECRET = "XYZZYSECRET"
NAMES = (
    "headrace.v1.InferenceService/Generate",
    "send hr.v1.req",
    "process hr.v1.req",
    "queue",
    "schedule",
    "batch",
    "generate fake",
    "first token",
    "stream",
    "deliver",
)


async def test_one_trace_holds_the_spans_of_all_processes(
    fake_store: Callable[[float], Path], tmp_path: Path
) -> None:
    """From the caller's span down: publish, queue wait, schedule, batch, first token, stream. No content."""
    store = fake_store(0.005)
    async with OtlpReceiver() as collector:
        async with (
            Processes(tmp_path, models=store, environment=collector.environment()) as mesh,
            HeadraceClient(mesh.address) as client,
        ):
            caller = TracerProvider().get_tracer("caller").start_span("caller")
            with trace.use_span(caller):
                outcome = await client.complete(
                    model="fake", prompt=f"{SECRET} is", max_tokens=10, ignore_end=True
                )
            assert isinstance(outcome, Outcome)
            context = caller.get_span_context()
            mine = f"{context.trace_id:032x}"

            def whole(seen: Sequence[ReceivedSpan]) -> bool:
                return all(any(s.trace_id == mine and s.name.startswith(n) for s in seen) for n in NAMES)

            await collector.wait_for(whole, 20)
            spans = {span.name: span for span in collector.spans if span.trace_id == mine}

        def parent(name: str) -> str:
            return next(span.name for span in spans.values() if span.span_id == spans[name].parent_id)

        server = NAMES[0]
        send = next(name for name in spans if name.startswith("send hr.v1.req"))
        process = next(name for name in spans if name.startswith("process hr.v1.req"))
        assert spans[server].parent_id == f"{context.span_id:016x}"
        assert parent(send) == server
        assert parent(process) == send
        assert parent("queue") == process
        assert parent("schedule") == process
        assert parent("generate fake") == process
        assert parent("first token") == "generate fake"
        assert parent("stream") == "generate fake"
        assert parent("deliver") == process
        assert {span.service for span in spans.values()} == {
            "headrace-gateway",
            "headrace-router",
            "headrace-worker",
        }
        assert parent("batch") == process
        assert SECRET.encode() not in collector.payload
