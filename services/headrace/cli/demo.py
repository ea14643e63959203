"""`headrace demo`: a whole mesh for the length of two answers, and nothing left of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.failures import one_line_errors

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.cli.demo_view import DemoView
    from headrace.cli.mesh import Mesh

# What a person may have set that a demo must not take up: it brings its own broker and addresses.
_KEPT = ("HEADRACE_MODELS", "HEADRACE_PYPI_INDEX", "HEADRACE_WORKER_DEVICE", "HEADRACE_WORKER_COMPUTE_TYPE")

_START_LIMIT_S = 120.0
"""For a mesh of one small model on one machine; it takes seconds. Without a limit a build could hang here."""

GRPC_QUESTION = "Why is the sky blue? Answer in two sentences."
EVENT_QUESTION = "What is the capital of France?"


def demo(
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="The model to ask; pulled where it is missing.")
    ] = "smollm2",
    logs: Annotated[bool, typer.Option("--logs", help="Show what the processes log.")] = False,
) -> None:
    """Start a whole mesh, ask a real model two questions in two ways, and end it all.

    Everything runs on free ports and in a temporary folder; only the model stays, in the model store.
    """
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_") or name in _KEPT
    }
    environ["HEADRACE_CONFIG"] = os.devnull  # and no headrace.toml that happens to lie here
    # gRPC would complain at each start of a child that its threads run; the child becomes another program at once.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

    import tempfile
    from pathlib import Path

    from rich.console import Console

    from headrace.cli.demo_view import DemoView

    view = DemoView(Console(highlight=False), show_logs=logs)
    view.title()
    with one_line_errors(), tempfile.TemporaryDirectory(prefix="headrace-demo-") as folder:
        raise typer.Exit(_demonstrate(view, model, Path(folder), environ))


def _demonstrate(view: DemoView, model: str, folder: Path, environ: dict[str, str]) -> int:
    from headrace.cli.mesh import plan_mesh
    from headrace.cli.model_needed import bring_models
    from headrace.models.store import ModelStore

    overrides = {
        "nats.port": 0,
        "router.port": 0,
        "gateway.port": 0,
        "nats.store_dir": folder / "nats",
        "worker.models": model,
    }
    mesh = plan_mesh(overrides, environ=environ)
    try:
        with view.step("The model") as say:
            bring_models(mesh.settings, pulling=True)
            say(view.about_model(ModelStore(mesh.settings.models).open(model).manifest))
        code = _run(view, mesh, model)
    finally:
        if mesh.nats is not None:
            mesh.nats.release()
    if code == 0:
        view.farewell()
    else:
        view.show_logs()
    return code


def _run(view: DemoView, mesh: Mesh, model: str) -> int:
    import asyncio

    from headrace.cli.bring_up import bring_up
    from headrace.cli.demo_questions import ask_by_event, ask_over_grpc
    from headrace.cli.supervisor import Supervisor
    from headrace.contract.errors import StartError
    from headrace.runtime.logs import configure_logs
    from headrace.runtime.settings import LogSettings
    from headrace.runtime.shutdown import Shutdown, run_process

    log_view = view.log_view([*mesh.names, "demo"])
    configure_logs(LogSettings(format="json"), process="demo", stream=log_view.stream("demo"))
    supervisor = Supervisor()

    async def ask() -> bool:
        with view.step("The mesh") as say:
            try:
                async with asyncio.timeout(_START_LIMIT_S):
                    models = await bring_up(mesh, supervisor, log_view.show)
            except TimeoutError:
                raise StartError(f"the mesh was not ready within {_START_LIMIT_S:g} s") from None
            say(*view.about_mesh(mesh, models, {child.spec.name: child.pid for child in supervisor.children}))
        await ask_over_grpc(view, mesh, model, GRPC_QUESTION)
        await ask_by_event(view, mesh, model, EVENT_QUESTION)
        return True

    async def run() -> int:
        async with (
            Shutdown(second=supervisor.end_at_once) as shutdown,
            supervisor.running(mesh.stop_order),
        ):
            asked = await shutdown.unless_requested(ask())
            view.draining()
        return 0 if asked else 130

    return run_process(run())
