"""Telemetry follows the OTEL_ settings, is off without them, and never holds up an exit."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from structlog.testing import capture_logs

from headrace.contract.errors import StartError
from headrace.runtime.propagation import as_parent, parse, record_span, trace_of
from headrace.runtime.telemetry import start_telemetry
from tests.otlp_receiver import OtlpReceiver
from tests.timing import shortest

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _use(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_SERVICE_NAME": "x"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
    ],
)
def test_off_unless_asked_for(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is recorded, and no thread is started, unless an exporter is asked for."""
    _use(monkeypatch, **settings)
    threads = threading.active_count()
    with start_telemetry("router", "r1") as telemetry:
        assert not telemetry.on
        assert not telemetry.tracer.start_span("x").is_recording()
        assert threading.active_count() == threads


def test_off_loads_no_sdk() -> None:
    """A process without telemetry does not pay for loading the SDK, the exporter or gRPC."""
    code = (
        "import sys; from headrace.runtime.telemetry import start_telemetry\n"
        "with start_telemetry('router', 'r1'): pass\n"
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.exporter', 'grpc'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={})
    assert done.stdout.strip() == "[]"


async def test_exports_over_otlp(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans reach a collector over OTLP, with parent, times, attributes, links and the process's resource."""
    _use(monkeypatch, **receiver.environment())
    async with start_telemetry("router", "r1") as telemetry:
        assert telemetry.on
        parent = parse(PARENT)
        with telemetry.tracer.start_as_current_span(
            "process", context=as_parent(parent), kind=trace.SpanKind.CONSUMER
        ) as span:
            span.set_attribute("headrace.attempt", 1)
            span.add_event("pulled", {"n": 2})
            told = trace_of(span, parent)
        record_span(telemetry.tracer, "queue", parent=told, start_ns=10, end_ns=20, links=[parent])
        spans = await receiver.wait_for(lambda spans: len(spans) == 2)
    process, queue = sorted(spans, key=lambda span: span.name, reverse=False)
    assert (process.service, process.instance, process.kind) == ("headrace-router", "r1", "CONSUMER")
    assert process.resource["service.version"]
    assert (process.trace_id, process.parent_id) == (PARENT.split("-")[1], PARENT.split("-")[2])
    assert process.attributes == {"headrace.attempt": 1}
    assert process.events == (("pulled", {"n": 2}),)
    assert (queue.start_ns, queue.end_ns) == (10, 20)
    assert (queue.trace_id, queue.parent_id) == (process.trace_id, process.span_id)
    assert queue.links == ((process.trace_id, PARENT.split("-")[2]),)


async def test_leaving_sends_what_is_left(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A span that ended just before the exit is not lost."""
    _use(monkeypatch, **receiver.environment() | {"OTEL_BSP_SCHEDULE_DELAY": "60000"})
    async with start_telemetry("worker", "w1") as telemetry:
        telemetry.tracer.start_span("batch").end()
        assert receiver.spans == []
    assert [span.name for span in receiver.spans] == ["batch"]


async def test_two_at_once_stay_apart(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no global provider: two telemetries in one process keep their own resources."""
    _use(monkeypatch, **receiver.environment())
    before = trace.get_tracer_provider()
    async with start_telemetry("router", "r1") as router, start_telemetry("worker", "w1") as worker:
        router.tracer.start_span("a").end()
        worker.tracer.start_span("b").end()
    assert {span.name: span.service for span in receiver.spans} == {
        "a": "headrace-router",
        "b": "headrace-worker",
    }
    assert trace.get_tracer_provider() is before


async def test_operator_names_the_service(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over our own names."""
    extra = {"OTEL_SERVICE_NAME": "mine", "OTEL_RESOURCE_ATTRIBUTES": "service.version=9,site=lab"}
    _use(monkeypatch, **receiver.environment() | extra)
    async with start_telemetry("router", "r1") as telemetry:
        telemetry.tracer.start_span("a").end()
    (span,) = receiver.spans
    assert (span.service, span.instance) == ("mine", "r1")
    assert (span.resource["service.version"], span.resource["site"]) == ("9", "lab")


async def test_sampler_follows_its_setting(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_TRACES_SAMPLER is honoured, and a sampled parent is followed by default."""
    _use(monkeypatch, **receiver.environment() | {"OTEL_TRACES_SAMPLER": "parentbased_always_off"})
    async with start_telemetry("router", "r1") as telemetry:
        telemetry.tracer.start_span("root").end()
        telemetry.tracer.start_span("child", context=as_parent(parse(PARENT))).end()
    assert [span.name for span in receiver.spans] == ["child"]


def test_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_TRACES_EXPORTER=console prints the spans."""
    code = (
        "from headrace.runtime.telemetry import start_telemetry\n"
        "with start_telemetry('router', 'r1') as t: t.tracer.start_span('hello').end()"
    )
    environment = {"OTEL_TRACES_EXPORTER": "console"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert '"name": "hello"' in done.stdout


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER=zipkin"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "http/protobuf"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/json",
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "soon"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_COMPRESSION": "zip"}, "zip"),
    ],
)
def test_what_there_is_not_is_refused(
    settings: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that cannot be honoured fails the start, and the error names it."""
    _use(monkeypatch, **settings)
    with pytest.raises(StartError, match=said):
        start_telemetry("router", "r1")


def test_specific_protocol_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting for traces wins over the general one, as the convention has it."""
    _use(
        monkeypatch,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="grpc",
    )
    with start_telemetry("router", "r1") as telemetry:
        assert telemetry.on


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed_port() -> str:
    """A port at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["black_hole", "closed_port"])
def test_dead_collector_does_not_hold_up_the_exit(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing returns half a second after the limit at most, whether the collector is silent or gone."""
    _use(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=request.getfixturevalue(kind))

    async def closed_after_s() -> float:
        telemetry = start_telemetry("router", "r1", flush_limit_s=0.3)
        for _ in range(1500):
            telemetry.tracer.start_span("x").end()
        began = time.monotonic()
        telemetry.close()
        took_s = time.monotonic() - began
        telemetry.close()  # a second time is nothing
        return took_s

    assert asyncio.run(shortest(closed_after_s, below_s=1.2)) < 1.2


def test_process_with_a_dead_collector_ends(black_hole: str) -> None:
    """The interpreter itself ends soon too: no thread of the exporter keeps it."""
    code = (
        "from headrace.runtime.telemetry import start_telemetry\n"
        "with start_telemetry('router', 'r1', flush_limit_s=0.3) as t: t.tracer.start_span('x').end()\n"
    )
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": black_hole}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=8, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


async def test_failing_export_is_logged_once_per_change(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A collector that goes and comes back gives one line each, however many tries failed in between."""
    caplog.set_level(logging.INFO)
    with capture_logs() as logged:
        await _lose_and_find_a_collector(monkeypatch)
    said = [line["event"] for line in logged]
    assert len([line for line in said if "do not reach" in line]) == 1, said
    assert len([line for line in said if "again" in line]) == 1, said
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


async def _lose_and_find_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports to a collector, on when it is gone, and until another has taken its place."""
    async with OtlpReceiver() as first:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
        _use(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=first.endpoint, OTEL_BSP_SCHEDULE_DELAY="20")
        telemetry = start_telemetry("router", "r1", flush_limit_s=0.5)
        telemetry.tracer.start_span("before").end()
        await first.wait_for(lambda spans: len(spans) == 1)
        port = int(first.endpoint.rsplit(":", 1)[1])
    try:
        watch = _Counted(monkeypatch)
        while watch.calls < 4:
            telemetry.tracer.start_span("lost").end()
            await watch.wait()
        async with OtlpReceiver(port) as second:
            while not second.named("after"):
                telemetry.tracer.start_span("after").end()
                await watch.wait()
    finally:
        telemetry.close()


class _Counted:
    """Counts the exports that have come to an end, and waits for the next."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from headrace.runtime.span_export import WatchedExporter

        self.calls = 0
        self._turn = threading.Condition()
        export = WatchedExporter.export

        def counted(exporter: WatchedExporter, spans: object) -> object:
            result = export(exporter, spans)  # type: ignore[arg-type]
            with self._turn:
                self.calls += 1
                self._turn.notify_all()
            return result

        monkeypatch.setattr(WatchedExporter, "export", counted)

    async def wait(self) -> None:
        import asyncio

        await asyncio.to_thread(self._wait)

    def _wait(self) -> None:
        with self._turn:
            seen = self.calls
            assert self._turn.wait_for(lambda: self.calls > seen, timeout=10)
