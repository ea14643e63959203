"""What a person is told when the mesh is up: where it is, and what to do with it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from headrace.cli.mesh import Mesh
from headrace.contract.deliver import Model

_DEFAULT_GATEWAY = "127.0.0.1:7700"


def print_ready(
    console: Console, mesh: Mesh, models: Sequence[Model], took_s: float, fragment: str = ""
) -> None:
    """The block, in one piece: framed on a terminal, plain elsewhere. `fragment` ends the console's URL."""
    rows = [
        _row("gRPC gateway", mesh.gateway),
        _row("NATS", mesh.nats_shown + ("" if mesh.nats else "  (not ours)")),
        *([_row("console", mesh.console_url + fragment)] if mesh.console else []),
        _row("models", ", ".join(_described(model) for model in models)),
        Text(),
        *_how_to(mesh, models),
        Text(),
        Text("Ctrl-C drains and ends everything.", style="dim"),
    ]
    title = f"Headrace is ready, after {took_s:.1f} s"
    if console.is_terminal:
        console.print(
            Panel(Group(*rows), title=title, title_align="left", border_style="green", padding=(1, 2))
        )
        return
    lines = "\n".join(f"  {row.plain}" if row.plain else "" for row in rows)
    console.print(Text(f"\n{title}\n\n{lines}\n"), soft_wrap=True)


def _row(name: str, value: str) -> Text:
    return Text.assemble((f"{name:14}", "bold"), value)


def _described(model: Model) -> str:
    lanes = "1 lane" if model.lanes == 1 else f"{model.lanes} lanes"
    return f"{model.name} ({lanes})"


def _how_to(mesh: Mesh, models: Sequence[Model]) -> list[Text]:
    running = [model.name for model in models if model.lanes] or [model.name for model in models]
    name = running[0] if running else "smollm2"
    flags = "" if mesh.gateway == _DEFAULT_GATEWAY else f" --address {mesh.gateway}"
    flags += "" if len(models) == 1 else f" --model {name}"
    body = '{"messages": [{"role": "user", "content": "Say hello."}]}'
    server = "" if mesh.nats_shown == "nats://127.0.0.1:4222" else f" --server {mesh.nats_shown}"
    return [
        Text("A first request, over gRPC:", style="bold"),
        Text(f'  headrace generate{flags} "What is the capital of France?"'),
        Text("The same by an event, from anything that speaks NATS:", style="bold"),
        Text(f"  nats{server} pub hr.v1.req.{name}.normal.default {shlex.quote(body)}"),
        Text("  its tokens: hr.v1.tok.default.>   its durable outcome: hr.v1.res.default.>"),
    ]
