"""A mesh to be measured, and its measurement: what `headrace bench` does once its flags are read."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from rich.console import Console

from headrace.bench.benchmark import run_benchmark
from headrace.bench.plan import EngineSetup, Plan, Target
from headrace.bench.report import REPORT, Report
from headrace.bench.table import print_report
from headrace.cli.bench_progress import showing_progress
from headrace.cli.bring_up import bring_up
from headrace.cli.mesh import Mesh, plan_mesh
from headrace.cli.model_needed import bring_models
from headrace.cli.supervisor import Supervisor
from headrace.client.client import HeadraceClient
from headrace.contract.errors import StartError
from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore
from headrace.runtime.settings import load_settings
from headrace.runtime.shutdown import Shutdown, run_process
from headrace.worker.device import EngineInventory, find_device
from headrace.worker.shape import choose_shape

_INTERRUPTED = 130
_START_LIMIT_S = 120.0
"""For a mesh on one machine; it takes seconds. Without a limit a build could hang here."""
_DRAIN_S = 2.0
"""Nothing runs any more when the mesh is told to end, unless the benchmark was interrupted."""
_LOOK_S = 0.05
_FILE_WIDTH = 110
"""Columns of the tables where nobody's terminal sets them."""
_KEPT = ("HEADRACE_MODELS", "HEADRACE_PYPI_INDEX")
"""What a person has set that a benchmark takes up; all else would make it another one on each machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshAsked:
    """Which mesh is to be measured."""

    address: str | None
    """A running one; None = one of its own, which all else describes."""
    fake: FakeTiming | None
    """Of the fake engine; None = a real model."""
    workers: int
    overrides: Mapping[str, object]
    direct: bool


def run_bench(plan: Plan, asked: MeshAsked, json_file: Path | None) -> int:
    """Measures, prints, writes; gives the exit code."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_FILE_WIDTH)

    async def run() -> int:
        supervisor = Supervisor()
        async with Shutdown(second=supervisor.end_at_once) as shutdown:
            report = await shutdown.unless_requested(_measure(plan, asked, supervisor))
        if report is None:
            return _INTERRUPTED
        print_report(console, report)
        if json_file is not None:
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_bytes(REPORT.dump_json(report, indent=2) + b"\n")  # noqa: ASYNC240
            console.print(f"[dim]all figures: {json_file}[/]")
        return 1 if report.errors else 0

    return run_process(run())


async def _measure(plan: Plan, asked: MeshAsked, supervisor: Supervisor) -> Report:
    with showing_progress() as progress:
        progress("starting the mesh", 0, 0)
        if asked.address is not None:
            settings = load_settings(dict(asked.overrides))
            target = Target(
                address=asked.address, processes=dict, store=settings.models, lanes=1, direct=None
            )
            return await run_benchmark(plan, target, _told(plan, asked), progress)
        async with mesh_to_measure(plan.model, asked, supervisor) as target:
            return await run_benchmark(plan, target, _told(plan, asked), progress)


@asynccontextmanager
async def mesh_to_measure(
    model: str, asked: MeshAsked, supervisor: Supervisor, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Target]:
    """A mesh of `model` on free ports and in a temporary folder, as long as the block lasts.

    `environ` is for its processes, beside what this one has. Raises StartError, or ChildFailed where one of them
    cannot start.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        mesh = _plan_mesh(model, asked, Path(name), environ or {})
        last_lines: dict[str, str] = {}
        try:
            async with supervisor.running(mesh.stop_order):
                try:
                    async with asyncio.timeout(_START_LIMIT_S):
                        await bring_up(mesh, supervisor, last_lines.__setitem__)
                        target = _target(mesh, asked, supervisor)
                        await _all_lanes(target, model)
                except TimeoutError:
                    said = "; ".join(f"{child}: {line[:200]}" for child, line in last_lines.items())
                    raise StartError(f"the mesh was not ready within {_START_LIMIT_S:g} s ({said})") from None
                yield target
        finally:
            if mesh.nats is not None:
                mesh.nats.release()


def _plan_mesh(model: str, asked: MeshAsked, folder: Path, environ: Mapping[str, str]) -> Mesh:
    own = {n: value for n, value in os.environ.items() if not n.startswith("HEADRACE_") or n in _KEPT}
    own["HEADRACE_CONFIG"] = os.devnull  # and no headrace.toml that happens to lie here
    overrides: dict[str, object] = {
        "nats.port": 0,
        "router.port": 0,
        "gateway.port": 0,
        "nats.store_dir": folder / "nats",
        "worker.models": model,
        "worker.drain_grace_s": _DRAIN_S,
        "router.drain_grace_s": _DRAIN_S,
        "gateway.drain_grace_s": _DRAIN_S,
        "log.level": "warning",
        **asked.overrides,
    }
    if asked.fake is not None:
        overrides["models"] = folder / "models"
        install_fake_model(ModelStore(folder / "models"), model, timing=asked.fake)
    mesh = plan_mesh(overrides, environ={**own, **environ}, workers=asked.workers)
    if asked.fake is None:
        bring_models(mesh.settings, pulling=False)
    return mesh


def _target(mesh: Mesh, asked: MeshAsked, supervisor: Supervisor) -> Target:
    own = mesh.settings.worker
    shape = choose_shape(
        own.model_copy(update={"lanes": mesh.lanes_each}),
        ModelStore(mesh.settings.models),
        find_device(own.device, EngineInventory()),
    )
    setup = EngineSetup(
        device=own.device,
        compute_type=own.compute_type,
        lanes=shape.lanes * asked.workers,
        threads_per_lane=shape.threads_per_lane,
    )
    return Target(
        address=mesh.gateway,
        processes=lambda: {child.spec.name: child.pid for child in supervisor.children if child.pid},
        store=mesh.settings.models,
        lanes=setup.lanes,
        direct=setup if asked.direct else None,
    )


async def _all_lanes(target: Target, model: str) -> None:
    """Returns when every worker has joined: `bring_up` is content with the first."""
    async with HeadraceClient(target.address) as client:
        while sum(one.lanes for one in await client.models() if one.name == model) < target.lanes:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)  # nothing tells of a worker that joins


def _told(plan: Plan, asked: MeshAsked) -> dict[str, str]:
    """What was asked for, for the report."""
    told = {field.name: getattr(part, field.name) for part in (plan, asked) for field in fields(part)}
    return {name: str(value) for name, value in told.items() if value is not None}
