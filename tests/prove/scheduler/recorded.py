"""Real runs, recorded, and the same runs again in the simulator."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace.bench.driver import ToSend
from headrace.bench.drivers import Drive, drive
from headrace.bench.plan import Target
from headrace.bench.record import Record
from headrace.bench.usage import UsageMeter
from headrace.cli.bench_run import MeshAsked, mesh_to_measure
from headrace.cli.supervisor import Supervisor
from headrace.models.store import ModelStore, StoredModel
from headrace.runtime.settings import WorkerSettings
from headrace.worker.calibrate import Asked, calibrate
from headrace.worker.calibration import Calibration
from headrace.worker.calibration_store import CalibrationStore
from headrace.worker.device import EngineInventory, find_device
from tests.prove.answers import real_model
from tests.prove.scheduler.compared import compared
from tests.prove.scheduler.load import MIXED, MODEL, requests
from tests.prove.scheduler.saturated import TIMEOUT_S, through_mesh

RECORDED = Path("out/prove/recorded-runs.json")
SAMPLE = 24
"""Requests, all at once, that say what the machine can do: by that the load is chosen."""
LOAD = 0.6
SECONDS = 50.0
RUNS = 4
"""The first and the third say how fast the machine is, the others are compared: no machine stays as fast for long."""
CALIBRATE_S = 40.0
SPARE = 4
"""Lanes for each that runs, as a worker has them by itself."""
SEED = 71


async def recorded(folder: Path) -> Mapping[str, float]:
    """An open loop at some of what the machine was just measured to do; the simulator has the costs that its worker
    tells, which are calibrated first.
    """
    model = await asyncio.to_thread(real_model)
    store = await asyncio.to_thread(_own_store, model, folder / "models")
    calibration = await asyncio.to_thread(_calibrated, store)
    overrides = {"models": store.root, "worker.lanes": calibration.lanes}
    asked = MeshAsked(address=None, fake=None, workers=1, overrides=overrides, direct=False)
    async with mesh_to_measure(MODEL, asked, Supervisor()) as target:
        asked_at_once = requests(model, MIXED, count=SAMPLE, seed=SEED)
        sample = await through_mesh(target, asked_at_once, folder)
        wall_s = max(one.ended_s for one in sample) - min(one.sent_s for one in sample)
        rate = LOAD * SAMPLE / wall_s
        runs = [await _open_loop(target, model, rate, folder, seed=SEED + number) for number in range(RUNS)]
    records = [one for _, answered in runs for one in answered]
    await asyncio.to_thread(_write, {"runs": [rows for rows, _ in runs]})
    print(f"  the runs: {RECORDED}", flush=True)
    lanes, max_batch = SPARE * target.lanes, WorkerSettings().max_batch
    return {
        "errors": float(sum(bool(one.error) for one in records)),
        "requests": float(len(records)),
        "rate": rate,
        "lanes": float(target.lanes),
        **compared(
            [rows for rows, _ in runs[::2]],
            [rows for rows, _ in runs[1::2]],
            calibration.cost,
            slots=target.lanes,
            lanes=lanes,
            max_batch=max_batch,
        ),
    }


def _own_store(model: StoredModel, root: Path) -> ModelStore:
    """A store with that model alone: what is measured here is no concern of the user's."""
    shutil.copytree(model.path, root / model.path.name, copy_function=os.link)
    return ModelStore(root)


def _calibrated(store: ModelStore) -> Calibration:
    asked = Asked(
        device=find_device("cpu", EngineInventory()),
        compute_type=WorkerSettings().compute_type,
        shape=None,
        seconds=CALIBRATE_S,
    )
    calibration = calibrate(store, MODEL, asked, lambda what, share: None)
    CalibrationStore(store).save(calibration)
    return calibration


async def _open_loop(
    target: Target, model: StoredModel, rate: float, folder: Path, *, seed: int
) -> tuple[list[dict[str, Any]], list[Record]]:
    """What became of a load, in the form that simulations are compared with, too."""
    load = requests(model, replace(MIXED, rate=rate, until_s=SECONDS), count=10_000, seed=seed)
    how = Drive(
        address=target.address,
        model=MODEL,
        clients=0,
        warm_up=2 * target.lanes,
        duration_s=SECONDS,
        timeout_s=TIMEOUT_S,
        processes=1,
    )
    records = (await drive(how, load, UsageMeter(target.processes), folder, lambda done: None)).records
    first = records[0]
    return rows_of(load, records, first.sent_s - load[first.index].arrival_s), records


def _write(run: Mapping[str, Any]) -> None:
    RECORDED.parent.mkdir(parents=True, exist_ok=True)
    RECORDED.write_text(json.dumps(run, indent=1) + "\n")


def rows_of(load: Sequence[ToSend], records: Sequence[Record], start_s: float) -> list[dict[str, Any]]:
    """The run in the form that simulations are compared with; all times in seconds from its start."""
    rows = [
        {
            "arrival_s": round(one.sent_s - start_s, 4),
            "prompt_tokens": load[one.index].prompt_tokens,
            "output_tokens": one.tokens,
            "max_tokens": load[one.index].output_tokens,
            "priority": load[one.index].priority,
            "tenant": "default",
            "first_token_s": round(one.first_s - start_s, 4),
            "end_s": round(one.ended_s - start_s, 4),
        }
        for one in records
        if not one.error
    ]
    return sorted(rows, key=lambda row: row["arrival_s"])
