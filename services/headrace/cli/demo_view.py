"""How the demo looks: numbered steps, good to read on a terminal and in a build's log."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from headrace.cli.log_view import LogView
from headrace.cli.mesh import Mesh
from headrace.cli.stream_view import StreamView
from headrace.contract.deliver import Model
from headrace.models.manifest import Manifest

Say = Callable[..., None]


class DemoView:
    """Writes to `console`. Writers: `_steps` by `step`, `_drain_began_s` by `draining`."""

    def __init__(self, console: Console, *, show_logs: bool) -> None:
        self.console = console
        self._show_logs = show_logs
        self._kept_logs = io.StringIO()
        self._steps = 0
        self._drain_began_s = 0.0

    def title(self) -> None:
        """The first line."""
        self.console.print(
            Text(
                "Headrace: two questions to a real model, through the whole mesh, on this machine",
                style="bold",
            )
        )

    @contextmanager
    def step(self, name: str) -> Iterator[Say]:
        """A numbered heading; what is said in the block comes below it, and then how long it took."""
        self._steps += 1
        self.console.print(Text(f"\n{self._steps}. {name}", style="bold cyan"))
        began_s = time.monotonic()
        yield self.say
        self.say(Text(f"{time.monotonic() - began_s:.1f} s", style="dim"))

    def say(self, *lines: str | Text) -> None:
        """Lines of a step."""
        for line in lines:
            self.console.print(Text.assemble("   ", line), soft_wrap=True)

    def ask(self, question: str, model: str) -> StreamView:
        """Shows the question; what it gives shows the answer, on the line that is begun here."""
        self.say(Text.assemble(("you      ", "bold green"), question))
        self.console.print(Text(f"   {model:8} ", style="bold green"), end="")
        return StreamView(sys.stdout, self.console, indent=" " * 12)

    def about_model(self, manifest: Manifest) -> str:
        """What it is and where it came from."""
        size = f"{manifest.parameters / 1e6:.0f} M parameters, " if manifest.parameters else ""
        return (
            f"{manifest.name}: {size}{manifest.quantisation}, context {manifest.context_length},"
            f" {manifest.licence}, from {manifest.source}"
        )

    def about_mesh(self, mesh: Mesh, models: Sequence[Model], pids: Mapping[str, int | None]) -> list[str]:
        """Its processes, in the order of the way of a request."""
        lanes = max((model.lanes for model in models), default=0)
        where = {"nats": mesh.nats_shown, "router": mesh.router, "gateway": mesh.gateway}
        return [
            f"{name:8} {where.get(name, f'{lanes} lanes')}  (process {pids.get(name)})" for name in mesh.names
        ]

    def draining(self) -> None:
        """The way down begins."""
        self._steps += 1
        self._drain_began_s = time.monotonic()
        self.console.print(Text(f"\n{self._steps}. The end", style="bold cyan"))

    def farewell(self) -> None:
        """Everything is gone."""
        self.say(
            "drained: gateway, router, worker, nats; no process and no file is left, except the model",
            Text(f"{time.monotonic() - self._drain_began_s:.1f} s", style="dim"),
        )
        self.console.print(Text("\nOf your own: headrace up", style="bold"))

    def log_view(self, names: Sequence[str]) -> LogView:
        """Where the processes' lines go: to stderr where they were asked for, else they are kept."""
        return LogView(names, stream=sys.stderr if self._show_logs else self._kept_logs)

    def show_logs(self) -> None:
        """What was kept: when something went wrong. A demo is short, so that it is not much."""
        sys.stderr.write(self._kept_logs.getvalue())
