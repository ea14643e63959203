"""How a plan looks: a table for each model and machine, or JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.cli.plan_rows import PROCESS_BYTES, Row
from headrace.cli.stream_view import harmless
from headrace.models.machine import CUDA

_PIPE_WIDTH = 160
_STYLE = {"yes": "green", "barely": "yellow", "no": "red"}


def row_fields(row: Row) -> dict[str, Any]:
    """A row for other programs. Bytes and seconds; null where there is nothing to say."""
    need, speed = row.need, row.speed
    return {
        "model": row.model.name,
        "parameters": row.model.shape.parameters,
        "machine": row.machine.name,
        "device": row.machine.kind,
        "memory_bytes": row.machine.memory_bytes,
        "compute_type": row.compute_type,
        "fits": row.fits,
        "lanes": row.load.lanes,
        "max_batch": row.load.batch,
        "context": row.context,
        "prompt": row.load.prompt,
        "weights_bytes": need and need.weights,
        "kv_bytes": need and need.kv,
        "overhead_bytes": need and row.overhead,
        "needed_bytes": need and row.needed,
        "fitting_lanes": row.most and row.most[0],
        "fitting_batch": row.most and row.most[1],
        "first_token_s": speed and round(speed.first_token_s, 4),
        "one_tokens_per_s": speed and round(speed.one_tokens_per_s, 2),
        "tokens_per_s": speed and round(speed.tokens_per_s, 1),
        "speed_from": speed and ("calibration" if speed.measured else "estimate"),
        "calibrated": row.calibrated or None,
        "assumed": [*filter(None, [row.model.shape.assumed]), *row.machine.assumed],
    }


def show(rows: Sequence[Row]) -> None:
    """Prints the tables on stdout, and under each what was assumed."""
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)
    for _, group in groupby(rows, key=lambda row: (id(row.model), id(row.machine))):
        _show_one(console, list(group))


def _show_one(console: Console, rows: Sequence[Row]) -> None:
    first = rows[0]
    shape, machine = first.model.shape, first.machine
    console.print(
        Text(
            harmless(
                f"{first.model.name} ({_count(shape.parameters)} parameters) on {machine.name}"
                f" ({machine.kind}, {_size(machine.memory_bytes)})",
                sys.stdout,
            ),
            style="bold",
        ),
        soft_wrap=True,
    )
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in ("compute type", "fits"):
        table.add_column(column)
    for column in ("weights", "KV", "overhead", "in all", "lanes", "first token", "alone", "all lanes"):
        table.add_column(column, justify="right")
    table.add_column("speed")
    for row in rows:
        if row.need is not None:
            table.add_row(row.compute_type, Text(_fits(row), style=_STYLE[row.fits]), *_cells(row))
    console.print(table)
    for line in _notes(rows):
        console.print(harmless(line, sys.stdout), markup=False, soft_wrap=True)
    console.print()


def _fits(row: Row) -> str:
    return f"no; {row.most[0]} x {row.most[1]} does" if row.most else row.fits


def _cells(row: Row) -> tuple[str, ...]:
    if row.need is None or row.speed is None:
        return ()
    sizes = (row.need.weights, row.need.kv, row.overhead, row.needed)
    return (
        *map(_size, sizes),
        str(row.load.lanes),
        _seconds(row.speed.first_token_s),
        f"{row.speed.one_tokens_per_s:,.1f}/s",
        f"{row.speed.tokens_per_s:,.0f}/s",
        f"calibrated {row.calibrated[:10]}" if row.speed.measured else "estimate",
    )


def _notes(rows: Sequence[Row]) -> list[str]:
    first = rows[0]
    lines = [
        f"Each lane with {first.load.batch} entries of up to {first.context:,} tokens, {first.load.prompt:,} of them"
        " the prompt. Speed: of a request alone, and of all lanes together."
    ]
    if any(row.most for row in rows):
        lines.append("Where that does not fit: the most lanes x entries of each that do.")
    if missing := [row.compute_type for row in rows if row.need is None]:
        lines.append(f"It does not compute in {', '.join(missing)}.")
    limit = first.model.shape.context_length
    if limit and first.context > limit:
        lines.append(f"The model was trained for {limit:,} tokens.")
    if first.machine.kind == CUDA:
        lines.append("Memory on a GPU is an estimate that nobody has measured.")
    else:
        lines.append(f"The overhead has the worker's process itself, {_size(PROCESS_BYTES)}.")
    if any(row.need is not None and row.need.loading == row.need.total for row in rows):
        lines.append(
            "Where loading takes the most, in all is that: the weights are first there as they are stored."
        )
    assumed = [first.model.shape.assumed] if first.model.shape.assumed else []
    if any(row.speed is not None and not row.speed.measured for row in rows):
        assumed += first.machine.assumed
        lines.append(
            "Estimated speeds follow from bandwidth and arithmetic alone; `headrace calibrate` there measures them."
        )
    if assumed:
        lines.append("Assumed: " + "; ".join(assumed) + ".")
    return lines


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:,.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:,.0f}M"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{seconds * 1e3:,.0f} ms"
