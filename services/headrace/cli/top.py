"""`headrace top`: the mesh live in a terminal, or once for other programs."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.failures import one_line_errors
from headrace.cli.options import ConfigOption, NatsUrlOption, SetOption, gather_overrides, read_settings

if TYPE_CHECKING:
    from headrace.console.live import Live
    from headrace.console.rows import Tables
    from headrace.runtime.settings import Settings

_FIRST_LOOK_S = 2.6
"""Until a picture is complete: routers answer an ask within a quarter of a second, gateways and streams every two."""


def top(
    nats_url: NatsUrlOption = None,
    once: Annotated[
        bool, typer.Option("--once", help="Print it once, and end; so it does where no terminal is.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, once; times are milliseconds of Unix time.")
    ] = False,
    every: Annotated[float, typer.Option("--every", min=0.25, max=60, help="Seconds between looks.")] = 1.0,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Show queues, routers, workers and lanes live, as they tell on NATS; Ctrl-C ends it.

    What is shown once has the times of all answers since the routers started, a live view those of the last ten
    seconds.
    """
    settings = read_settings(config, gather_overrides(assignments, {"nats.url": nats_url}))

    import uvloop

    from headrace.runtime.logs import configure_logs
    from headrace.runtime.settings import LogSettings

    configure_logs(LogSettings(level="error"), process="top")
    only_once = once or as_json or not sys.stdout.isatty()
    look = _once(settings, as_json=as_json) if only_once else _watch(settings, every)
    with one_line_errors(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(look)


async def _once(settings: Settings, *, as_json: bool) -> None:
    from rich.console import Console

    from headrace.cli.top_view import view
    from headrace.console.series import since_the_start

    async with asyncio.TaskGroup() as tasks:
        live, feed = await _feed(settings, tasks)
        await asyncio.sleep(_FIRST_LOOK_S)
        feed.cancel()
    tables = live.picture.tables()
    figures = since_the_start(live.picture.states())
    if as_json:
        typer.echo(json.dumps(document(tables, figures), indent=2))
        return
    terminal = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    terminal.print(view(tables, figures, time.time(), height=10_000, width=terminal.width))


async def _watch(settings: Settings, every_s: float) -> None:
    from rich.console import Console
    from rich.live import Live as Screen

    from headrace.cli.top_view import view

    terminal = Console(highlight=False)
    async with asyncio.TaskGroup() as tasks:
        live, _ = await _feed(settings, tasks)
        tasks.create_task(live.run(), name="top: beat")
        with Screen(console=terminal, screen=terminal.is_terminal, auto_refresh=False) as screen:
            while True:
                await live.after(live.number)
                figures = live.series.latest or {}
                tables = live.picture.tables()
                width, height = terminal.size
                screen.update(view(tables, figures, time.time(), height=height, width=width), refresh=True)
                await asyncio.sleep(every_s - 0.25)


async def _feed(settings: Settings, tasks: asyncio.TaskGroup) -> tuple[Live, asyncio.Task[None]]:
    """A picture that is being told. Raises StartError where NATS is not there."""
    from headrace.cli.nats_call import connected_at_once
    from headrace.console.feed import Feed
    from headrace.console.live import Live
    from headrace.console.picture import Picture
    from headrace.runtime.nats_state import NatsHealth

    live, health, ready = Live(Picture(time.time)), NatsHealth(), asyncio.Event()

    async def hear() -> None:
        async with connected_at_once(settings.nats, "headrace top", health.record) as nc:
            ready.set()
            await Feed(nc, live.picture, health).run()

    task = tasks.create_task(hear(), name="top: feed")
    await ready.wait()
    return live, task


def document(tables: Tables, figures: dict[str, Any]) -> dict[str, Any]:
    """For other programs: each table as a list, with `id` for the key."""
    listed = {name: [{"id": key, **row} for key, row in rows.items()] for name, rows in tables.items()}
    return {**listed, "mesh": tables["mesh"]["mesh"], "figures": figures}
