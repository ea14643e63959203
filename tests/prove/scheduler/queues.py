"""Queues as the boundary of fairness. The fake engine: this is about queues, and it answers hundreds a second."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles

import psutil

from headrace.bench.driver import ToSend
from headrace.client.client import HeadraceClient
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from tests.integration.processes import Processes
from tests.prove.scheduler.broker_load import PROMPT, BrokerLoad
from tests.prove.scheduler.heard import ask

MODEL, UNSERVED = "fake", "unserved"
"""Of the second, requests wait for ever: it is known, and no worker has it."""
FLOOD = int(os.environ.get("PROVE_FLOOD", "100000"))
"""Waiting requests of one tenant."""
FEW = 64
"""Of the flooding tenant without a flood: the lanes are as full, and little waits."""
FLOOD_TOKENS = 20
TENANT = "b"
ASKED = 60
ASKED_S = 40.0
"""For all of them: each takes some steps where the flood does not delay it."""
QUEUES, EACH = 500, 3
NEW = 20
SERVED_S = 120.0
QUICK = {
    "HEADRACE_LOG_LEVEL": "warning",
    **{f"HEADRACE_{name}_DRAIN_GRACE_S": "1" for name in ("ROUTER", "GATEWAY", "WORKER")},
}
"""What still waits at the end is nobody's any more."""
IDLE_S = 10.0


async def flood(folder: Path) -> Mapping[str, float]:
    """The first tokens of one tenant, while another keeps all lanes busy with few requests waiting, or with many."""
    store = ModelStore(folder / "models")
    install_fake_model(store, MODEL, timing=FakeTiming(step_s=0.005))
    environment = {
        "HEADRACE_WORKER_LANES": "4",
        "HEADRACE_QUEUES_MAX_MESSAGES_PER_QUEUE": str(2 * FLOOD),
        **QUICK,
    }
    mesh = Processes(folder, models=folder / "models", environment=environment)
    async with mesh, HeadraceClient(mesh.address) as client, BrokerLoad(mesh.nats_url) as broker:
        await _first_tokens(client, 10)  # warm
        few = await _under(client, broker, "few", FEW)
        print(f"  with {FEW} waiting: p99 {_p99_ms(few):.0f} ms", flush=True)
        began_s = time.monotonic()
        await broker.publish(MODEL, "many", FLOOD, FLOOD_TOKENS)
        (burst,) = await _first_tokens(client, 1)
        await broker.all_stored()
        stored_s = time.monotonic() - began_s
        many = await _first_tokens(client, ASKED)
        left = await broker.waiting()
        answered = broker.answered.get("many", 0)
        flooding_s = time.monotonic() - began_s
    print(f"  {FLOOD} stored in {stored_s:.1f} s; {left} wait at the end", flush=True)
    print(f"  first token of one that came while the broker stored them: {1e3 * burst:.0f} ms", flush=True)
    return {
        "to_without": _p99_ms(many) / _p99_ms(few),
        "left": float(left),
        "burst_ms": 1e3 * burst,
        "p50_few_ms": 1e3 * median(few),
        "p99_few_ms": _p99_ms(few),
        "p50_many_ms": 1e3 * median(many),
        "p99_many_ms": _p99_ms(many),
        "flood_served_per_s": answered / flooding_s,
    }


async def _under(client: HeadraceClient, broker: BrokerLoad, tenant: str, outstanding: int) -> list[float]:
    """First tokens while so many of `tenant` are unanswered."""
    holding = asyncio.create_task(broker.hold(MODEL, tenant, outstanding, FLOOD_TOKENS))
    try:
        await broker.all_answered(outstanding, tenant, SERVED_S)
        return await _first_tokens(client, ASKED)
    finally:
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        assert holding.cancelled(), holding


async def _first_tokens(client: HeadraceClient, count: int) -> list[float]:
    """Seconds, of one after another. What has not come in their time counts with how long it was waited for."""
    seconds: list[float] = []
    asked_s = time.monotonic()
    try:
        async with asyncio.timeout(ASKED_S):
            for _ in range(count):
                asked_s = time.monotonic()
                seconds.append((await ask(client, _request(5), MODEL, tenant=TENANT)).first_token_s)
    except TimeoutError:
        seconds.append(time.monotonic() - asked_s)
    return seconds


async def many_queues(folder: Path) -> Mapping[str, float]:
    """500 queues with a few requests each; then they are idle; then 500 others have requests that nothing can run, and
    queues that were never used are noticed beside them.
    """
    store = ModelStore(folder / "models")
    install_fake_model(store, MODEL, timing=FakeTiming(step_s=0.001))
    install_fake_model(store, UNSERVED)
    environment = {
        "HEADRACE_WORKER_LANES": "4",
        "HEADRACE_WORKER_MODELS": MODEL,
        "HEADRACE_ROUTER_MAX_QUEUES": "2000",  # of both kinds together
        **QUICK,
    }
    mesh = Processes(folder, models=folder / "models", environment=environment)
    async with mesh, HeadraceClient(mesh.address) as client, BrokerLoad(mesh.nats_url) as broker:
        began_s = time.monotonic()
        for number in range(QUEUES):
            await broker.publish(MODEL, f"q{number}", EACH, 5)
        await broker.all_answered(QUEUES * EACH, "q", SERVED_S)
        served_s = time.monotonic() - began_s
        busy = await asyncio.to_thread(_cpu_percent, mesh)
        for number in range(QUEUES):
            await broker.publish(UNSERVED, f"u{number}", 1, 5)
        # The first finds the router with 500 queues to make consumers for; then it is idle again.
        first = (await ask(client, _request(1), MODEL, tenant="new-first")).usage.queue_s
        noticed = [
            (await ask(client, _request(1), MODEL, tenant=f"new-{number}")).usage.queue_s
            for number in range(NEW)
        ]
    unserved = sum(broker.answered.get(f"q{number}", 0) < EACH for number in range(QUEUES))
    return {
        "unserved": float(unserved),
        "served_s": served_s,
        "noticed_p50_ms": 1e3 * median(noticed),
        "noticed_max_ms": 1e3 * max(noticed),
        "noticed_in_a_burst_ms": 1e3 * first,
        "idle_cpu": sum(busy.values()),
        **{f"idle_cpu_{name}": value for name, value in busy.items()},
    }


def _request(tokens: int) -> ToSend:
    return ToSend(
        index=0,
        prompt=PROMPT,
        prompt_tokens=len(PROMPT),
        output_tokens=tokens,
        priority="normal",
        arrival_s=0.0,
    )


def _cpu_percent(mesh: Processes) -> dict[str, float]:
    """Of one core, over some seconds in which nothing is asked."""
    watched = {"router": psutil.Process(mesh.pid("router")), "nats": _nats_server()}
    before = {name: process.cpu_times() for name, process in watched.items()}
    time.sleep(IDLE_S)
    return {
        name: 100 * (sum(process.cpu_times()[:2]) - sum(before[name][:2])) / IDLE_S
        for name, process in watched.items()
    }


def _nats_server() -> psutil.Process:
    for child in psutil.Process().children(recursive=True):
        if child.name().startswith("nats-server"):
            return child
    raise AssertionError("no nats-server runs")


def _p99_ms(seconds: Sequence[float]) -> float:
    return 1e3 * (quantiles(seconds, n=100, method="inclusive")[98] if len(seconds) > 1 else seconds[0])
