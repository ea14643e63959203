"""Parts that the benchmark measures."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


async def streams(folder: Path) -> Mapping[str, float]:
    """64 clients at once on the fake engine; errors include every index out of order.

    CPU time, unlike throughput, says much the same on a machine that others use as well.
    """
    report = await _bench(
        folder, "--engine", "fake", "--clients", "64", "--requests", "384", "--lanes", "32", "--no-direct"
    )
    (measured,) = report["phases"][0]["rounds"]
    cpu = sum(measured["processes"][name]["cpu_ms_per_1000_tokens"] for name in ("nats", "router", "gateway"))
    return {"errors": float(sum(measured["mesh"]["errors"].values())), "cpu": cpu / 1000}


async def model(folder: Path) -> Mapping[str, float]:
    """The real model through the mesh and on the engine directly, the same requests in turn; medians of the rounds."""
    common = ("--output-tokens", "16-48", "--direct-batches", "4")
    lone = await _bench(folder, "--clients", "1", "--requests", "6", "--rounds", "3", *common)
    some = await _bench(folder, "--clients", "8", "--requests", "24", "--rounds", "2", *common)
    busy = await _bench(folder, "--clients", "32", "--requests", "40", "--rounds", "2", *common)
    (alone,), (eight,), (many,) = lone["phases"], some["phases"], busy["phases"]
    rounds = [one for phase in (alone, eight, many) for one in phase["rounds"]]
    return {
        "errors": float(sum(sum(one["mesh"]["errors"].values()) for one in rounds)),
        "ratio_8": eight["ratio"],
        "ratio_32": many["ratio"],
        "ratio_32_best": many["ratio_to_best"],
        "added_first_token": alone["added_first_token_ms"],
    }


async def _bench(folder: Path, *flags: str) -> dict[str, Any]:
    file = folder / "bench.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace.cli", "bench", "--json", str(file), *flags
    )
    code = await process.wait()
    assert file.exists(), f"headrace bench ended with {code} and no report"
    report: dict[str, Any] = json.loads(file.read_text())
    return report
