"""`headrace up`: a whole mesh on this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.failures import one_line_errors
from headrace.cli.options import (
    ComputeTypeOption,
    ConfigOption,
    DeviceOption,
    LanesOption,
    MaxBatchOption,
    NatsUrlOption,
    ServedModelsOption,
    SetOption,
    ThreadsOption,
    gather_overrides,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from headrace.cli.log_view import LogView
    from headrace.cli.mesh import Mesh
    from headrace.runtime.settings import LogSettings


def up(
    workers: Annotated[int, typer.Option("--workers", min=0, max=64, help="Workers to start.")] = 1,
    host: Annotated[
        str | None,
        typer.Option(
            "--host", help="Address that the gateway listens on; 127.0.0.1 by default.", show_default=False
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", help="Port of the gateway; 7700 by default, 0 for any.", show_default=False),
    ] = None,
    nats_url: NatsUrlOption = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            metavar="DIR",
            help="Folder where the embedded NATS server keeps queues and results.",
            show_default=False,
        ),
    ] = None,
    pull: Annotated[
        bool, typer.Option("--pull/--no-pull", help="Get a model first where the store holds none.")
    ] = True,
    console: Annotated[
        bool, typer.Option("--console/--no-console", help="Run the console, a web page that shows the mesh.")
    ] = True,
    models: ServedModelsOption = None,
    device: DeviceOption = None,
    compute_type: ComputeTypeOption = None,
    lanes: LanesOption = None,
    threads_per_lane: ThreadsOption = None,
    max_batch: MaxBatchOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Run a whole mesh on this machine: NATS, router, gateway, workers and the console.

    What falls is started again. Ctrl-C drains and ends everything; a second one ends it at once.
    """
    flags = {
        "gateway.host": host,
        "gateway.port": port,
        "nats.url": nats_url,
        "nats.store_dir": state,
        "worker.models": models,
        "worker.device": device,
        "worker.compute_type": compute_type,
        "worker.lanes": lanes,
        "worker.threads_per_lane": threads_per_lane,
        "worker.max_batch": max_batch,
    }
    overrides = gather_overrides(assignments, flags)
    environ = dict(os.environ)
    # gRPC would complain at each start of a child that its threads run; the child becomes another program at once.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    from headrace.cli.mesh import plan_mesh
    from headrace.cli.model_needed import bring_models
    from headrace.runtime.settings import LogSettings

    _log_as_up([], LogSettings())
    with one_line_errors():
        fragment = _operator(overrides, environ, config) if console else ""
        mesh = plan_mesh(overrides, environ=environ, config=config, workers=workers, console=console)
        try:
            if workers:
                bring_models(mesh.settings, pulling=pull)
            code = _run(mesh, fragment)
        finally:
            if mesh.nats is not None:
                mesh.nats.release()
    raise typer.Exit(code)


def _operator(overrides: dict[str, object], environ: Mapping[str, str], config: Path | None) -> str:
    """What makes whoever follows the link an operator of the console: a token for this run, which a person at a
    terminal gets where the settings have none. Behind the #, so that it goes to no server and into no log of one.
    """
    import secrets
    import sys

    from headrace.runtime.settings import load_settings

    settings = load_settings(overrides, config=config, environ=environ)
    if settings.console.token or settings.gateway.admin_token or not sys.stdout.isatty():
        return ""
    overrides["console.token"] = secrets.token_urlsafe(18)
    return f"#operator={overrides['console.token']}"


def _run(mesh: Mesh, fragment: str) -> int:
    import time

    from rich.console import Console

    from headrace.cli.bring_up import bring_up
    from headrace.cli.ready_block import print_ready
    from headrace.cli.supervisor import Supervisor
    from headrace.runtime.log_level import change_level_on_signals
    from headrace.runtime.shutdown import Shutdown, run_process

    view = _log_as_up(mesh.names, mesh.settings.log)
    began_s = time.monotonic()

    async def run() -> None:
        supervisor = Supervisor()
        change_level_on_signals(mesh.settings.log.level, supervisor.pass_on)
        async with Shutdown(second=supervisor.end_at_once) as shutdown, supervisor.running(mesh.stop_order):
            models = await shutdown.unless_requested(bring_up(mesh, supervisor, view.show))
            if models is not None:
                print_ready(Console(), mesh, models, time.monotonic() - began_s, fragment)
                await shutdown.requested()

    return run_process(run())


def _log_as_up(names: Sequence[str], settings: LogSettings) -> LogView:
    """The view of the lines of `names`; this process's own go there too, under the name `up`."""
    from headrace.cli.log_view import LogView
    from headrace.runtime.logs import configure_logs
    from headrace.runtime.settings import LogSettings

    view = LogView([*names, "up"], raw=settings.format == "json")
    own = LogSettings(level=settings.level, format="json")  # as the children's, which the view makes readable
    configure_logs(own, process="up", stream=view.stream("up"))
    return view
