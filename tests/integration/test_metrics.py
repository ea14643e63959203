"""Metrics of a whole mesh, as a collector and as Prometheus get them."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from deploy.metrics import prometheus_name
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from headrace.client.client import HeadraceClient
from headrace.contract.errors import HeadraceError
from headrace.contract.values import Outcome
from headrace.runtime import metric_names as names
from headrace.runtime.metric_names import instruments
from tests.integration.processes import Processes
from tests.otlp_receiver import OtlpReceiver
from tests.prometheus import Prometheus, fetch, promtool, series_names

pytestmark = pytest.mark.integration

SECRET = "XYZZYSECRET"
RULES = Path(__file__).parents[2] / "deploy/prometheus/headrace.rules.yml"
NAMES = ("router", "gateway", "worker", "console")
TOKENS = 10
REQUESTS = 6


async def scrape_targets(mesh: Processes) -> list[dict[str, Any]]:
    """As an operator gets them."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace.cli", "members", "--prometheus", "--address", mesh.address),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    found: list[dict[str, Any]] = json.loads(said)
    return found


def console_of(mesh: Processes) -> str:
    """Where it says that its metrics are."""
    found = re.search(r'"address": "http://([^/]+)/metrics"', mesh.log("console"))
    assert found, mesh.log("console")
    return found[1]


def exposed(texts: Sequence[str]) -> set[str]:
    """The names of all series."""
    return {found for text in texts for found in re.findall(r"^([a-z][a-z0-9_]*)", text, re.MULTILINE)}


async def test_metrics_reach_prometheus_and_a_collector(
    fake_store: Callable[[float], Path], tmp_path: Path
) -> None:
    """All processes are found and scraped; every metric that is declared is exposed, and counts what was done; a
    collector gets the same, with the trace of a request as an example; the tools find no fault, and nowhere is content.
    """
    store = fake_store(0.005)
    (tmp_path / "prometheus").mkdir()
    async with OtlpReceiver() as collector, AsyncExitStack() as stack:
        environment = {
            **collector.environment(),
            "HEADRACE_METRICS_PORT": "0",
            "HEADRACE_WORKER_LANES": "1",
            "HEADRACE_WORKER_MAX_BATCH": "2",
        }
        mesh = await stack.enter_async_context(
            Processes(tmp_path, models=store, environment=environment, names=NAMES)
        )
        client = await stack.enter_async_context(HeadraceClient(mesh.address))
        caller = TracerProvider().get_tracer("caller").start_span("caller")

        async def ask(tenant: str) -> None:
            outcome = await client.complete(
                model="fake", prompt=f"{SECRET} is", max_tokens=TOKENS, ignore_end=True, tenant=tenant
            )
            assert isinstance(outcome, Outcome)

        with trace.use_span(caller):
            await asyncio.gather(*(ask("acme" if n % 2 else "umbra") for n in range(REQUESTS)))
        with pytest.raises(HeadraceError):
            await client.complete(model="nobody-has-it", prompt=SECRET)

        targets = await scrape_targets(mesh)
        assert {target["labels"]["headrace_kind"] for target in targets} == {"router", "gateway", "worker"}
        addresses = [target["targets"][0] for target in targets]
        addresses.append(console_of(mesh))  # no member: whoever scrapes it, names it
        await collector.until(
            lambda: sum(point.value for point in collector.metrics.named(names.TOKENS_USED.name)) > 0,
            "tokens over OTLP",
        )

        # The endpoint itself.
        texts = [await fetch(f"http://{address}/metrics") for address in addresses]
        for text in texts:
            assert SECRET not in text
            promtool("check", "metrics", told=text)
        declared = {name for instrument in instruments() for name in series_names(instrument)}
        assert declared - exposed(texts) == set()

        # Prometheus, with the rules that are shipped.
        server = await stack.enter_async_context(Prometheus(tmp_path / "prometheus", targets, [RULES]))
        assert await server.query("up == 1", least=3)
        used = prometheus_name(names.TOKENS_USED)
        by_tenant = await server.query(f'sum by (headrace_tenant) ({used}{{gen_ai_token_type="output"}}) > 0')
        assert {labels["headrace_tenant"]: value for labels, value in by_tenant} == {
            "acme": REQUESTS / 2 * TOKENS,
            "umbra": REQUESTS / 2 * TOKENS,
        }
        ((_, ended),) = await server.query('sum(headrace_outcomes_total{headrace_outcome="completed"})')
        assert ended == REQUESTS
        assert await server.query("headrace:tokens:total")
        groups = (await server.api("rules"))["groups"]
        assert all(rule["health"] in ("ok", "unknown") for group in groups for rule in group["rules"])

        # The collector.
        metrics = collector.metrics
        assert metrics.faults == []
        assert {point.service for point in metrics.points} >= {
            "headrace-router",
            "headrace-gateway",
            "headrace-worker",
            "headrace-console",
        }
        mine = f"{caller.get_span_context().trace_id:032x}"
        await collector.until(
            lambda: mine in metrics.examples(names.REQUEST_DURATION.name), "an example of a traced request"
        )
        (first,) = metrics.named(names.TIME_TO_FIRST_TOKEN.name)
        assert (first.bounds, first.value, first.unit) == (names.FIRST_TOKEN_S, REQUESTS, "s")
        assert first.attributes == {
            "gen_ai.operation.name": "generate",
            "gen_ai.provider.name": "headrace",
            "gen_ai.request.model": "fake",
            "headrace.priority": "normal",
        }
        assert SECRET.encode() not in collector.payload
        assert SECRET not in mesh.logs()
