"""How a calibration looks in a terminal: a bar while it runs, and then its tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from headrace.contract.costs import CostGrid
from headrace.worker.calibration import Calibration, Memory
from headrace.worker.trial import (
    MEMORY_BATCH,
    MEMORY_CONTEXT,
    TRIAL_BATCH,
    TRIAL_CONTEXT,
    TRIAL_TOKENS,
)


class CalibrateProgress:
    """Draws on stderr what `headrace.worker.calibrate.calibrate` reports. A context manager."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description:32}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bars.add_task("loading", total=1.0)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._bars.update(self._task, description="measured", completed=1.0)
        self._bars.stop()

    def report(self, what: str, share: float) -> None:
        """A `headrace.worker.calibrate.Report`."""
        self._bars.update(self._task, description=what, completed=share)


def show(calibration: Calibration, path: Path) -> None:
    """Prints it on stdout, and where it is kept."""
    console = Console()
    for title, table in _tables(calibration):
        console.print(title, style="bold", highlight=False, soft_wrap=True)
        console.print(table)
    for line in _lines(calibration, path):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _tables(calibration: Calibration) -> Iterator[tuple[str, Table]]:
    """Each with its title, which may be wider than it."""
    yield "A decode step, in ms", _grid(calibration.cost.step)
    yield "A prefill, in ms", _grid(calibration.cost.prefill)
    if calibration.trials:
        yield (
            f"Tokens/s, each lane with {TRIAL_BATCH} prompts of {TRIAL_CONTEXT} tokens making {TRIAL_TOKENS} each",
            _trials(calibration),
        )


def _grid(grid: CostGrid) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("entries", justify="right")
    for context in grid.contexts:
        table.add_column(f"{context} tokens", justify="right")
    width = len(grid.contexts)
    for row, batch in enumerate(grid.batches):
        table.add_row(str(batch), *map(_ms, grid.seconds[row * width : (row + 1) * width]))
    return table


def _trials(calibration: Calibration) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in ("lanes", "threads of each", "tokens/s", ""):
        table.add_column(column, justify="right")
    for trial in calibration.trials:
        chosen = (trial.lanes, trial.threads_per_lane) == (calibration.lanes, calibration.threads_per_lane)
        table.add_row(
            str(trial.lanes),
            str(trial.threads_per_lane),
            f"{trial.tokens_per_s:,.1f}",
            "chosen" if chosen else "",
        )
    return table


def _lines(calibration: Calibration, path: Path) -> Iterator[str]:
    machine = calibration.fingerprint
    threads = "one thread" if calibration.threads_per_lane == 1 else f"{calibration.threads_per_lane} threads"
    yield (
        f"{calibration.model} {calibration.version} as {machine.compute_type} on {machine.device}: "
        f"{calibration.lanes} {'lane' if calibration.lanes == 1 else 'lanes'} of {threads}"
        f"{', all at work while it was measured' if calibration.trials else '; known from its timing'}"
    )
    yield f"Loading took {calibration.cost.load_s:.2f} s. {_memory(calibration.memory)}"
    yield f"Kept in {path}"
    yield "Workers that start here use it; set worker.lanes and worker.threads_per_lane for others than these."


def _memory(memory: Memory) -> str:
    if not memory.weights_bytes:
        return "Memory was not measured."
    return (
        f"Memory: {memory.weights_bytes / 1e6:.0f} MB loaded, and {memory.lane_bytes / 1e6:.0f} MB for each lane"
        f" that runs {MEMORY_BATCH} entries of {MEMORY_CONTEXT} tokens."
    )


def _ms(seconds: float) -> str:
    ms = seconds * 1e3
    return f"{ms:.2f}" if ms < 10 else f"{ms:.1f}" if ms < 100 else f"{ms:,.0f}"
