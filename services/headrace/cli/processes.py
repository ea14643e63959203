"""`headrace router`, `gateway`, `worker` and `console`: one process each, until a signal drains it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Annotated, Literal

import typer

from headrace.cli.failures import one_line_errors
from headrace.cli.options import (
    ComputeTypeOption,
    ConfigOption,
    DeviceOption,
    LabelsOption,
    LanesOption,
    MaxBatchOption,
    NatsUrlOption,
    ServedModelsOption,
    SetOption,
    ThreadsOption,
    gather_overrides,
    read_settings,
)

Process = Literal["router", "gateway", "worker", "console"]


def router(
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", help="Port that workers and gateways dial; 7701 by default.", show_default=False
        ),
    ] = None,
    nats_url: NatsUrlOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Run one router: it pulls the queues and decides which worker runs what."""
    _run("router", config, assignments, {"router.host": host, "router.port": port, "nats.url": nats_url})


def gateway(
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", help="Port that clients dial; 7700 by default.", show_default=False),
    ] = None,
    nats_url: NatsUrlOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Run one gateway: the gRPC front door for clients."""
    _run("gateway", config, assignments, {"gateway.host": host, "gateway.port": port, "nats.url": nats_url})


def console(
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", help="Port that browsers dial; 7780 by default.", show_default=False),
    ] = None,
    nats_url: NatsUrlOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Run the console: a web page that shows the mesh live, and replays dead letters for operators."""
    _run("console", config, assignments, {"console.host": host, "console.port": port, "nats.url": nats_url})


def worker(
    router: Annotated[
        str | None,
        typer.Option(
            "--router",
            metavar="HOST:PORT,…",
            help="The routers to join: the first that answers, the others when it is lost.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = None,
    compute_type: ComputeTypeOption = None,
    lanes: LanesOption = None,
    threads_per_lane: ThreadsOption = None,
    max_batch: MaxBatchOption = None,
    models: ServedModelsOption = None,
    labels: LabelsOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Run one worker: it joins a router, another when that is lost, and runs models on this machine's device."""
    flags = {
        "worker.router": router,
        "worker.device": device,
        "worker.compute_type": compute_type,
        "worker.lanes": lanes,
        "worker.threads_per_lane": threads_per_lane,
        "worker.max_batch": max_batch,
        "worker.models": models,
        "worker.labels": labels,
    }
    _run("worker", config, assignments, flags)


def _run(process: Process, config: ConfigOption, assignments: SetOption, flags: Mapping[str, object]) -> None:
    settings = read_settings(config, gather_overrides(assignments, flags))

    from headrace.runtime.log_level import change_level_on_signals
    from headrace.runtime.logs import configure_logs
    from headrace.runtime.shutdown import Shutdown, run_process

    instances = {
        "router": settings.router.id or "",
        "gateway": settings.gateway.id or "",
        "worker": settings.worker.name,
        "console": "",
    }
    configure_logs(settings.log, process=process, instance=instances[process])
    change_level_on_signals(settings.log.level)
    with one_line_errors():  # Ctrl-C while it is imported
        run = importlib.import_module(f"headrace.{process}.app").run

    async def serve() -> None:
        async with Shutdown() as shutdown:
            await run(settings, shutdown)

    raise typer.Exit(run_process(serve()))
