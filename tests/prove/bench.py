"""Parts that the benchmark measures."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


async def streams(folder: Path) -> Mapping[str, float]:
    """64 clients at once on the fake engine: a load, not a result; errors include every index out of order."""
    report = await _bench(
        folder, "--engine", "fake", "--clients", "64", "--requests", "384", "--lanes", "32", "--no-direct"
    )
    mesh = report["phases"][0]["rounds"][0]["mesh"]
    return {"errors": float(sum(mesh["errors"].values()))}


async def model(folder: Path) -> Mapping[str, float]:
    """The real model through the mesh and on the engine directly, the same requests in the same run."""
    report = await _bench(
        folder, "--clients", "1,8", "--requests", "24", "--output-tokens", "16-64", "--direct-batches", "4"
    )
    alone, eight = report["phases"]
    first_token = (
        alone["rounds"][0]["mesh"]["first_token_ms"]["p50"] - _direct(alone)["first_token_ms"]["p50"]
    )
    ratio = eight["rounds"][0]["mesh"]["output_tokens_per_s"] / _direct(eight)["output_tokens_per_s"]
    return {"ratio": ratio, "added_first_token": first_token}


def _direct(phase: dict[str, Any]) -> dict[str, Any]:
    """The engine alone, first come, batch 1: what the mesh's figures are held against."""
    figures: dict[str, Any] = phase["rounds"][0]["direct"]["first come, batch 1"]["figures"]
    return figures


async def _bench(folder: Path, *flags: str) -> dict[str, Any]:
    file = folder / "bench.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace.cli", "bench", "--json", str(file), *flags
    )
    code = await process.wait()
    assert file.exists(), f"headrace bench ended with {code} and no report"
    report: dict[str, Any] = json.loads(file.read_text())
    return report
