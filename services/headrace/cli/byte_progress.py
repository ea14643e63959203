"""A bar of bytes on stderr; where that is no terminal, a line when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn


@contextmanager
def byte_progress(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Gives `report(done, total)`."""
    columns = (TextColumn("{task.description:12}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
