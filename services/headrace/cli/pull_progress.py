"""How a pull looks in a terminal: one bar per stage, in bytes or in tensors."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from headrace.models.pull import Stage

_COUNTED = frozenset({Stage.CONVERT})  # its progress is in tensors, that of the others in bytes


class PullProgress:
    """Draws the progress that `headrace.models.pull.pull` reports. A context manager; `report` is the callback.

    Where stderr is no terminal, each stage is one line when it is done.
    """

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description:12}"),
            BarColumn(),
            _AmountColumn(),
            _SpeedColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._tasks: dict[Stage, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def report(self, stage: Stage, done: int, total: int) -> None:
        """A `headrace.models.pull.Progress`."""
        if stage is Stage.WAIT:
            self._bars.console.print("Waiting for another pull of the same model to end …", style="yellow")
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage.value, total=total, counted=stage in _COUNTED)
        self._bars.update(self._tasks[stage], completed=done, total=total)


class _AmountColumn(ProgressColumn):
    def __init__(self) -> None:
        super().__init__()
        self._bytes = DownloadColumn()

    def render(self, task: Task) -> Text:
        if task.fields["counted"]:
            return Text(f"{int(task.completed)}/{int(task.total or 0)} tensors", style="progress.download")
        return self._bytes.render(task)


class _SpeedColumn(TransferSpeedColumn):
    def render(self, task: Task) -> Text:
        return Text("") if task.fields["counted"] else super().render(task)
