"""What tracing costs: two meshes side by side, one that traces every request and one that traces none, in turn."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

import psutil

from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from tests.integration.processes import Processes
from tests.otlp_receiver import OtlpReceiver

ROUNDS = 4
CLIENTS, REQUESTS = 64, 256
STEP_S = 0.01
NAMES = ("router", "gateway", "worker")
COMMON = {
    "HEADRACE_WORKER_LANES": "32",
    "HEADRACE_WORKER_SPARE_LANES": "0",
    "HEADRACE_LOG_LEVEL": "warning",
}


async def tracing_cost(folder: Path) -> Mapping[str, float]:
    """Tokens a second and processor time a token, traced against not: medians of pairs of runs, in turn.

    Traced means that every request is: exported over OTLP to a collector on this machine, which takes of its processor
    too, and told to the gateway.
    """
    install_fake_model(ModelStore(folder / "models"), timing=FakeTiming(step_s=STEP_S))
    async with AsyncExitStack() as stack:
        collector = await stack.enter_async_context(OtlpReceiver())
        plain = await stack.enter_async_context(
            _mesh(folder / "plain", folder / "models", {"HEADRACE_TRACES_RECENT": "false"})
        )
        traced = await stack.enter_async_context(
            _mesh(
                folder / "traced",
                folder / "models",
                collector.environment() | {"OTEL_BSP_SCHEDULE_DELAY": "1000"},
            )
        )
        for mesh in (plain, traced):
            await _load(folder, mesh, requests=CLIENTS)  # what is loaded late is loaded now
        pairs = []
        for number in range(ROUNDS):
            order = (plain, traced) if number % 2 else (traced, plain)
            measured = {mesh: await _load(folder, mesh, requests=REQUESTS) for mesh in order}
            pairs.append((measured[plain], measured[traced]))
        spans = len(collector.spans)
    return {
        "throughput": median(on[0] / off[0] for off, on in pairs),
        "cpu": median(on[1] / off[1] for off, on in pairs),
        "tokens_s": median(on[0] for _, on in pairs),
        "spans": spans / (ROUNDS * REQUESTS + CLIENTS),
    }


@asynccontextmanager
async def _mesh(folder: Path, models: Path, environment: Mapping[str, str]) -> AsyncIterator[Processes]:
    await asyncio.to_thread(folder.mkdir)
    async with Processes(folder, models=models, environment={**COMMON, **environment}) as mesh:
        yield mesh


async def _load(folder: Path, mesh: Processes, *, requests: int) -> tuple[float, float]:
    """Tokens a second, and processor seconds of the mesh's processes a token."""
    file = folder / "bench.json"
    processes = [psutil.Process(mesh.pid(name)) for name in NAMES]
    before_s = sum(sum(process.cpu_times()[:2]) for process in processes)
    bench = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace.cli", "bench", "--address", mesh.address),
        *("--model", "fake", "--clients", str(CLIENTS), "--requests", str(requests), "--no-direct"),
        *("--json", str(file)),
        stdout=asyncio.subprocess.DEVNULL,
        env={**os.environ, "HEADRACE_MODELS": str(folder / "models")},
    )
    assert await bench.wait() == 0, "the load failed"
    spent_s = sum(sum(process.cpu_times()[:2]) for process in processes) - before_s
    report = json.loads(file.read_text())
    (measured,) = report["phases"][0]["rounds"]
    tokens_s = float(measured["mesh"]["output_tokens_per_s"])
    tokens = float(measured["mesh"]["output_tokens"])
    return tokens_s, spent_s / tokens
