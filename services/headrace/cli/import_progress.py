"""How an import looks in a terminal: one bar, in tensors or, where a model is copied as it is, in bytes."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_BYTES = 1 << 20
"""From here on the numbers are bytes: no model has a million tensors."""


class ImportProgress:
    """Draws the progress that `headrace.models.importing` reports. A context manager; `report` is the callback."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description:12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            console=console,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def report(self, done: int, total: int) -> None:
        """A `headrace.models.importing.Progress`."""
        scale, unit = (1_000_000, "MB") if total >= _BYTES else (1, "tensors")
        if self._task is None:
            self._task = self._bars.add_task("importing", total=total // scale, unit=unit)
        self._bars.update(self._task, completed=done // scale)
