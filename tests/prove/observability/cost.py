"""What it costs to tell: meshes that do and one that does not, side by side, under the same load in turn."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from tests.integration.processes import Processes
from tests.prometheus import fetch
from tests.prove.observability.otlp_sink import OtlpSink

ROUNDS = 10
CLIENTS, REQUESTS = 64, 192
STEP_S = 0.01
SCRAPED_EVERY_S = 5
"""Thrice as often as in the configuration that is shipped."""
NAMES = ("router", "gateway", "worker")
PLAIN = "plain"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A mesh, and how it is put under load."""

    folder: Path
    mesh: Processes
    scraped: Sequence[str]
    """Its endpoints, which are scraped while it is under load."""

    async def run(self, requests: int) -> Run:
        """One load, by the benchmark's own process."""
        file = self.folder / "bench.json"
        processes = [psutil.Process(self.mesh.pid(name)) for name in NAMES]
        before_s = sum(sum(process.cpu_times()[:2]) for process in processes)
        scraping = asyncio.create_task(self._scrape())
        bench = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headrace.cli", "bench", "--address", self.mesh.address),
            *("--model", "fake", "--clients", str(CLIENTS), "--requests", str(requests), "--no-direct"),
            *("--json", str(file)),
            env={**os.environ, "HEADRACE_MODELS": str(self.folder / "models")},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            assert await bench.wait() == 0, "the load failed"
            assert not scraping.done(), "a scrape failed"
        finally:
            scraping.cancel()
        spent_s = sum(sum(process.cpu_times()[:2]) for process in processes) - before_s
        (measured,) = json.loads(file.read_text())["phases"][0]["rounds"]
        return Run(
            tokens_s=float(measured["mesh"]["output_tokens_per_s"]),
            cpu_s=spent_s / float(measured["mesh"]["output_tokens"]),
        )

    async def _scrape(self) -> None:
        await asyncio.sleep(SCRAPED_EVERY_S / 2)  # a load takes about as long as there is between two
        while True:
            for address in self.scraped:
                await fetch(f"http://{address}/metrics")
            await asyncio.sleep(SCRAPED_EVERY_S)


Pair = tuple[Run, Run]
"""Silent, and told."""


async def telling_cost(folder: Path) -> Mapping[str, float]:
    """Tokens a second and processor time a token of each way to tell, against a mesh that tells nothing: medians of
    pairs under the same load, each run between two silent ones.

    `tracing`: every request is traced, remembered by the gateway, and exported over OTLP. `metrics`: all processes are
    scraped. `both`: every request is traced and remembered, spans and metrics go over OTLP, and all are scraped.
    Who scrapes and who receives are on this machine, and take of its processors, too.
    """
    install_fake_model(ModelStore(folder / "models"), timing=FakeTiming(step_s=STEP_S))
    async with AsyncExitStack() as stack:
        sink = await stack.enter_async_context(OtlpSink())
        told, silent = sink.environment(), {"HEADRACE_TRACES_RECENT": "false"}
        ways = {
            PLAIN: silent,
            "tracing": told | {"OTEL_METRICS_EXPORTER": "none"},
            "metrics": silent | {"HEADRACE_METRICS_PORT": "0"},
            "both": told | {"HEADRACE_METRICS_PORT": "0"},
        }
        meshes: dict[str, Loaded] = {}
        for name, environment in ways.items():
            (folder / name).mkdir()
            mesh = Processes(folder / name, models=folder / "models", environment={**COMMON, **environment})
            await stack.enter_async_context(mesh)
            scraped = await _addresses(mesh) if "HEADRACE_METRICS_PORT" in environment else ()
            meshes[name] = Loaded(folder=folder, mesh=mesh, scraped=scraped)
        rounds = await _rounds(meshes)
        spans, points = sink.spans, sink.points
    assert min(spans, points) > 0, "what is said to be exported is"
    return {**_compared(rounds), "spans": spans / (2 * (ROUNDS * REQUESTS + CLIENTS))}


async def _rounds(meshes: Mapping[str, Loaded]) -> dict[str, list[Pair]]:
    """By way to tell: each of its runs, beside the mean of the silent ones right before and right after it."""
    for mesh in meshes.values():
        await mesh.run(CLIENTS)  # what is loaded late is loaded now
    silent, found = meshes[PLAIN], {name: list[Pair]() for name in meshes if name != PLAIN}
    before = await silent.run(REQUESTS)
    for _ in range(ROUNDS):
        for name, pairs in found.items():
            told = await meshes[name].run(REQUESTS)
            after = await silent.run(REQUESTS)
            pairs.append((_mean(before, after), told))
            before = after
    return found


def _mean(one: Run, other: Run) -> Run:
    return Run(tokens_s=(one.tokens_s + other.tokens_s) / 2, cpu_s=(one.cpu_s + other.cpu_s) / 2)


def _compared(rounds: Mapping[str, Sequence[Pair]]) -> dict[str, float]:
    found = {"tokens_s": median(silent.tokens_s for pairs in rounds.values() for silent, _ in pairs)}
    for name, pairs in rounds.items():
        ratios = sorted(told.tokens_s / silent.tokens_s for silent, told in pairs)
        found[name] = median(ratios)
        found[f"{name}_cpu"] = median(told.cpu_s / silent.cpu_s for silent, told in pairs)
        found[f"{name}_spread"] = ratios[-len(ratios) // 4] - ratios[len(ratios) // 4]
    return found


async def _addresses(mesh: Processes) -> Sequence[str]:
    asked = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace.cli", "members", "--prometheus", "--address", mesh.address),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asked.communicate()
    found = [target["targets"][0] for target in json.loads(said)]
    assert len(found) == len(NAMES)
    return found
