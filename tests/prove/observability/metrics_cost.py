"""What metrics cost: two meshes, one that exports them and one that does not, under the same load in turn."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from tests.integration.processes import Processes
from tests.prometheus import fetch

PAIRS = 9
CLIENTS, REQUESTS = 64, 256
STEP_S = 0.01
EVERY_S = 5
"""Between scrapes: thrice as often as in the configuration that is shipped."""
NAMES = ("router", "gateway", "worker")
COMMON = {
    "HEADRACE_WORKER_LANES": "32",
    "HEADRACE_WORKER_SPARE_LANES": "0",
    "HEADRACE_LOG_LEVEL": "warning",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One load."""

    tokens_s: float
    cpu_s: float
    """Processor time of the mesh's processes, without NATS, for each token."""


async def metrics_cost(folder: Path) -> Mapping[str, float]:
    """Tokens a second and processor time a token, exported against not: medians of pairs of runs, in turn.

    Exported means that all three processes are scraped; who scrapes takes of this machine's processors, too.
    """
    install_fake_model(ModelStore(folder / "models"), timing=FakeTiming(step_s=STEP_S))
    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(_mesh(folder / "plain", folder / "models", {}))
        told = await stack.enter_async_context(
            _mesh(folder / "told", folder / "models", {"HEADRACE_METRICS_PORT": "0"})
        )
        scraping = asyncio.create_task(_scrape(await _addresses(told)))
        pairs: list[tuple[Run, Run]] = []
        try:
            for mesh in (plain, told):
                await _load(folder, mesh, requests=CLIENTS)  # what is loaded late is loaded now
            for number in range(PAIRS):
                order = (plain, told) if number % 2 else (told, plain)
                runs = {mesh: await _load(folder, mesh, requests=REQUESTS) for mesh in order}
                pairs.append((runs[plain], runs[told]))
            assert not scraping.done(), "a scrape failed"
        finally:
            scraping.cancel()
    ratios = [on.tokens_s / off.tokens_s for off, on in pairs]
    return {
        "throughput": median(ratios),
        "cpu": median(on.cpu_s / off.cpu_s for off, on in pairs),
        "tokens_s": median(on.tokens_s for _, on in pairs),
        "spread": max(ratios) - min(ratios),
    }


@asynccontextmanager
async def _mesh(folder: Path, models: Path, environment: Mapping[str, str]) -> AsyncIterator[Processes]:
    await asyncio.to_thread(folder.mkdir)
    async with Processes(folder, models=models, environment={**COMMON, **environment}) as mesh:
        yield mesh


async def _addresses(mesh: Processes) -> Sequence[str]:
    asked = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace.cli", "members", "--prometheus", "--address", mesh.address),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asked.communicate()
    found = [target["targets"][0] for target in json.loads(said)]
    assert len(found) == len(NAMES)
    return found


async def _scrape(addresses: Sequence[str]) -> None:
    while True:
        for address in addresses:
            await fetch(f"http://{address}/metrics")
        await asyncio.sleep(EVERY_S)


async def _load(folder: Path, mesh: Processes, *, requests: int) -> Run:
    file = folder / "bench.json"
    processes = [psutil.Process(mesh.pid(name)) for name in NAMES]
    before_s = sum(sum(process.cpu_times()[:2]) for process in processes)
    bench = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace.cli", "bench", "--address", mesh.address),
        *("--model", "fake", "--clients", str(CLIENTS), "--requests", str(requests), "--no-direct"),
        *("--json", str(file)),
        env={**os.environ, "HEADRACE_MODELS": str(folder / "models")},
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await bench.wait() == 0, "the load failed"
    spent_s = sum(sum(process.cpu_times()[:2]) for process in processes) - before_s
    (measured,) = json.loads(file.read_text())["phases"][0]["rounds"]
    return Run(
        tokens_s=float(measured["mesh"]["output_tokens_per_s"]),
        cpu_s=spent_s / float(measured["mesh"]["output_tokens"]),
    )
