"""How far a benchmark is, in a terminal or in a log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from headrace.bench.plan import Progress


@contextmanager
def showing_progress() -> Iterator[Progress]:
    """A bar on stderr, gone at the end; where stderr is no terminal, a line for each thing that begins."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("")

        def show(what: str, done: int, total: int) -> None:
            bars.update(bar, description=what, completed=done, total=total or None)

        yield show


def _lines(console: Console) -> Progress:
    last = ""

    def say(what: str, done: int, total: int) -> None:
        nonlocal last
        if what != last:
            last = what
            console.print(what, soft_wrap=True)

    return say
