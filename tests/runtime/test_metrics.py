"""Metrics: what is counted is bounded, what is exported is what was counted, and off costs nothing."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from headrace.contract.errors import StartError
from headrace.runtime import metric_names as names
from headrace.runtime.grpc_server import PortInUse
from headrace.runtime.metric_names import Kind, instruments
from headrace.runtime.metrics import Metrics
from headrace.runtime.metrics_start import exported_metrics
from headrace.runtime.propagation import parse
from headrace.runtime.settings import MetricsSettings
from headrace.runtime.tally import Tally
from tests.otlp_receiver import OtlpReceiver
from tests.prometheus import fetch, series_names

TRACE = parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
UNSAMPLED = parse("00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203331-00")
HERE = MetricsSettings(port=0)


@pytest.fixture(autouse=True)
def no_otel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own settings."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_METRICS_EXPORTER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


def test_names_beyond_the_bound_are_other() -> None:
    """A caller that makes up names adds to one series; the first ones are told apart to the end; nothing is lost."""
    tally = Tally(names.TOKENS_USED, limit=2)
    for tenant in ("a", "b", "c", "d", "a"):
        tally.add(tenant, "m", "input", by=10)
    tally.add("c", "m", "output")
    tally.add("a", "m", "output")
    counted = {labels: value for labels, value in tally.values.items() if value}
    assert counted == {
        ("a", "m", "input"): 20,
        ("b", "m", "input"): 10,
        ("other", "other", "input"): 20,
        ("other", "other", "output"): 1,
        ("a", "m", "output"): 1,
    }


def test_every_series_is_there_from_the_start() -> None:
    """A counter begins at 0, so that its first count is a rise."""
    assert Tally(names.DEAD_LETTERS, limit=1).values == {("",): 0}


def test_what_is_watched_stays_at_zero() -> None:
    """A queue that was there once is told of as empty; and names beyond the bound are merged as asked for."""
    metrics = Metrics(max_series=1)
    now: dict[tuple[str, ...], float] = {("m", "high"): 3, ("n", "high"): 5, ("o", "high"): 4}
    metrics.watch(names.QUEUE_WAITING, lambda: now)
    metrics.watch(names.QUEUE_AGE, lambda: now, merge=max)
    assert metrics.values(names.QUEUE_WAITING) == {("m", "high"): 3, ("other", "high"): 9}
    assert metrics.values(names.QUEUE_AGE) == {("m", "high"): 3, ("other", "high"): 5}
    now = {}
    assert metrics.values(names.QUEUE_WAITING) == {("m", "high"): 0, ("other", "high"): 0}


def test_off_loads_no_sdk_and_still_counts() -> None:
    """A process that exports nothing does not pay for the SDK, an exporter or a thread; tallies can be read."""
    code = (
        "import asyncio, sys, threading\n"
        "from headrace.runtime import metric_names as names\n"
        "from headrace.runtime.metrics_start import exported_metrics\n"
        "from headrace.runtime.settings import MetricsSettings\n"
        "async def main():\n"
        "    async with exported_metrics('router', 'r1', MetricsSettings()) as metrics:\n"
        "        metrics.tally(names.PAUSES).add()\n"
        "        metrics.histogram(names.INTAKE).record(1.0)\n"
        "        print(metrics.on, metrics.address, metrics.values(names.PAUSES), threading.active_count())\n"
        "asyncio.run(main())\n"
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.exporter', 'prom'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={})
    assert done.stdout.splitlines() == ["False  {(): 1} 1", "[]"]


async def test_prometheus_gets_what_was_counted() -> None:
    """A counter, a histogram and what is watched, under the names and with the labels that are promised."""
    async with exported_metrics("router", "r1", HERE) as metrics:
        metrics.tally(names.OUTCOMES).add("completed", "m", "high", "")
        metrics.histogram(names.QUEUE_WAIT).record(0.2, "m", "high", trace=TRACE)
        metrics.watch(names.QUEUE_BACKLOG, lambda: {("m", "high"): 7})
        metrics.sample()
        text = await fetch(f"http://{metrics.address}/metrics")
    labels = 'gen_ai_request_model="m",headrace_priority="high"'
    assert (
        f'headrace_outcomes_total{{gen_ai_request_model="m",headrace_outcome="completed",{labels[25:]}}} 1.0'
        in text
    )
    assert f'headrace_queue_wait_seconds_bucket{{{labels},le="0.25"}} 1.0' in text
    assert f'headrace_queue_wait_seconds_bucket{{{labels},le="0.1"}} 0.0' in text
    assert f"headrace_queue_backlog{{{labels}}} 7.0" in text
    assert 'target_info{service_instance_id="r1",service_name="headrace-router"' in text


async def test_two_processes_in_one_stay_apart() -> None:
    """There is no global registry: two endpoints show their own counts, and are gone after the block."""
    async with (
        exported_metrics("router", "r1", HERE) as router,
        exported_metrics("worker", "w1", HERE) as worker,
    ):
        router.tally(names.PAUSES).add(by=3)
        worker.tally(names.PAUSES).add(by=4)
        assert "headrace_batch_pauses_total 3.0" in await fetch(f"http://{router.address}/metrics")
        assert "headrace_batch_pauses_total 4.0" in await fetch(f"http://{worker.address}/metrics")
    for address in (router.address, worker.address):
        with pytest.raises(OSError, match="refused"):
            await fetch(f"http://{address}/metrics")
    assert "metrics" not in {thread.name for thread in threading.enumerate()}


async def test_a_series_too_many_is_folded_by_us_and_not_by_the_sdk() -> None:
    """The SDK's own bound of 2,000 series does not hide what `metrics.max_series` lets through."""
    settings = MetricsSettings(port=0, max_series=3000)
    async with exported_metrics("router", "r1", settings) as metrics:
        for number in range(3001):
            metrics.tally(names.TENANT_OUTCOMES).add(f"t{number}", "completed")
        text = await fetch(f"http://{metrics.address}/metrics")
    shown = [line for line in text.splitlines() if line.startswith("headrace_tenant_outcomes_total{")]
    assert len(shown) == 3002  # the 0 that each begins with is one of them
    assert any('headrace_tenant="other"' in line for line in shown)
    assert "overflow" not in text


async def test_examples_are_of_sampled_traces(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over OTLP, a measurement of a sampled request names its trace; another's does not. Leaving sends the last."""
    for name, value in receiver.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "600000")
    async with exported_metrics("router", "r1", MetricsSettings()) as metrics:
        metrics.histogram(names.INTAKE).record(0.2, trace=TRACE)
        metrics.histogram(names.INTAKE).record(2.0, trace=UNSAMPLED)
        metrics.histogram(names.INTAKE).record(3.0)
    (point,) = receiver.metrics.named(names.INTAKE.name)
    assert (point.value, point.kind, point.unit, point.bounds) == (3, "histogram", "s", names.CALL_S)
    assert point.examples == (TRACE.traceparent.split("-")[1],)
    assert receiver.metrics.faults == []


async def test_a_collector_that_is_away_is_told_of_once_and_holds_up_no_exit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exports that fail make one line of log, and leaving takes no longer than its limit."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()
    from headrace.runtime.metric_export import WatchedMetricExporter

    export, tries = WatchedMetricExporter.export, []

    def counted(*args: object, **kwargs: object) -> object:
        result = export(*args, **kwargs)  # type: ignore[arg-type]
        tries.append(result)
        if len(tries) == 3:
            loop.call_soon_threadsafe(failed.set)
        return result

    monkeypatch.setattr(WatchedMetricExporter, "export", counted)
    with capture_logs() as logs:
        async with (
            exported_metrics("router", "r1", MetricsSettings(), flush_limit_s=0.5),
            asyncio.timeout(10),
        ):
            await failed.wait()
    assert [line["event"][:31] for line in logs if "do not reach" in line["event"]] == [
        "metrics do not reach http://127"
    ]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_a_port_in_use_fails_the_start(taken: int) -> None:
    """The error names the port and the setting."""
    with pytest.raises(PortInUse, match=r"metrics\.port"):
        async with exported_metrics("router", "r1", MetricsSettings(port=taken)):
            pass


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("OTEL_METRICS_EXPORTER", "prometheus", "HEADRACE_METRICS_PORT"),
        ("OTEL_METRICS_EXPORTER", "zipkin", "OTEL_METRICS_EXPORTER=zipkin"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=http/json"),
    ],
)
async def test_what_there_is_not_is_refused(
    setting: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that cannot be honoured fails the start, and the error says what to set instead."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(setting, value)
    with pytest.raises(StartError, match=said):
        async with exported_metrics("router", "r1", HERE):
            pass


async def test_the_sdk_switched_off_switches_off_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SDK_DISABLED wins, and the log says that an endpoint was asked for in vain."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with capture_logs() as logs:
        async with exported_metrics("router", "r1", HERE) as metrics:
            assert not metrics.on
    assert [line["event"] for line in logs] == ["metrics.disabled"]


async def test_only_metrics_are_served() -> None:
    """Another path is answered with where they are; a connection that says nothing holds up no scrape."""
    async with exported_metrics("router", "r1", HERE) as metrics:
        host, _, port = metrics.address.rpartition(":")
        with socket.create_connection((host, int(port))):
            with pytest.raises(OSError, match="404"):
                await fetch(f"http://{metrics.address}/")
            assert "target_info" in await fetch(f"http://{metrics.address}/metrics")


async def test_a_reading_that_fails_is_told_once_and_ends_nothing() -> None:
    """A fault in one figure is an error in the log, and the others go on."""
    read = asyncio.Event()

    def broken() -> dict[tuple[str, ...], float]:
        read.set()
        raise ZeroDivisionError

    with capture_logs() as logs:
        async with exported_metrics("router", "r1", HERE) as metrics, asyncio.timeout(10):
            metrics.watch(names.HELD, broken)
            await read.wait()
            assert "target_info" in await fetch(f"http://{metrics.address}/metrics")
            metrics._watched.clear()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["metrics.not_read"]


def test_names_are_as_the_conventions_have_them() -> None:
    """No name twice; labels are declared before their use; buckets rise; units are those that Prometheus can show."""
    every = list(instruments())
    assert len({one.name for one in every}) == len(every)
    series = [name for one in every for name in series_names(one)]
    assert len(set(series)) == len(series)
    for one in every:
        assert set(one.names) <= set(one.labels)
        assert (one.kind is Kind.HISTOGRAM) == bool(one.buckets)
        assert list(one.buckets) == sorted(set(one.buckets))
        assert one.about.endswith(".")
        assert one.unit in ("s", "By", "1") or (one.unit[0], one.unit[-1]) == ("{", "}")
