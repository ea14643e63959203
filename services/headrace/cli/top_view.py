"""The mesh as text: what `headrace top` shows."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.cli.members import since
from headrace.cli.stream_view import harmless
from headrace.console.rows import Row, Tables
from headrace.console.series import ALL
from headrace.contract.values import Priority

_NUMBERS = ("holds", "workers", "paused", "waiting", "oldest", "in NATS")
_SHORT = ("state", "running", "class")
_GAP = "   "
_CLASS_STYLES = ("bright_red", "yellow", "bright_blue", "magenta")
_QUEUES_SHARE = 0.35
"""Of the lines, for queues; the workers have the rest."""
_FRAME = 12
"""Lines of heads and rules."""
_NARROW = 90
"""Columns below which it is left out where things are, and what else can be done without."""


def view(
    tables: Tables, figures: Mapping[str, Any], now_s: float, *, height: int, width: int
) -> RenderableType:
    """A screen of `height` lines of `width` columns: the deepest queues, and as many workers as there is room for."""
    now_ms, narrow = now_s * 1000, width < _NARROW
    head = _head(tables, figures, width)
    room = max(4, height - _FRAME - len(head) - len(tables["routers"]))
    queues = sorted(tables["queues"].values(), key=_depth, reverse=True)
    queue_lines = min(len(queues), max(2, int(room * _QUEUES_SHARE)))
    workers = sorted(tables["workers"].values(), key=lambda row: (not row["lost"], row["name"]))
    worker_lines = max(2, room - queue_lines)
    parts: list[RenderableType] = [*head, _routers(tables["routers"], now_ms, narrow=narrow)]
    if queues:
        shown = queues[:queue_lines]
        parts += [_queues(shown, now_ms, narrow=narrow), *_rest(len(queues) - queue_lines, "queues")]
    parts += [
        _workers(workers[:worker_lines], now_ms, narrow=narrow),
        *_rest(len(workers) - worker_lines, "workers"),
    ]
    return Group(*parts)


def _rest(count: int, what: str) -> Iterable[Text]:
    if count > 0:
        yield Text(f"  and {count} more {what}", style="dim")


def _head(tables: Tables, figures: Mapping[str, Any], width: int) -> list[Text]:
    """The figures, in as many lines as they take: none is cut in two."""
    mesh, routers = tables["mesh"]["mesh"], tables["routers"].values()
    waiting = sum(map(_depth, tables["queues"].values()))
    running = sum(row["entries"] for row in routers)
    link = Text("NATS away", "bold red") if not mesh["connected"] else Text("live", "green")
    parts = [
        Text.assemble(("Headrace ", "bold"), link),
        Text(f"running {running}"),
        Text(f"waiting {waiting}"),
    ]
    if "tokens" in figures:
        parts.append(Text(f"tokens/s {figures['tokens']:.0f}"))
    for name, key in (("first token", "first"), ("between tokens", "inter")):
        half, most = (figures.get(f"{key}{part}", [None] * (ALL + 1))[ALL] for part in (50, 99))
        parts.append(Text(f"{name} p50 {seconds(half)} p99 {seconds(most)}"))
    parts.append(Text(f"dead letters {mesh['dead']}", "yellow" if mesh["dead"] else ""))
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + len(_GAP) + len(part) <= width:
            lines[-1].append(_GAP).append_text(part)
        else:
            lines.append(part)
    return lines


def _routers(rows: Mapping[str, Row], now_ms: float, *, narrow: bool) -> RenderableType:
    if not rows:
        return Text("\nNo router shows itself. Is the mesh up, and on this NATS?\n", "yellow")
    table = _Table(narrow, "router", "-at", "state", "holds", "-workers", "running", "paused", "-up")
    for name, row in sorted(rows.items()):
        table.add(
            Text(_plain(name), "bold"),
            _plain(row["address"]),
            _state(row, silent=f"silent {since((now_ms - row['silent']) / 1000)}" if row["silent"] else ""),
            str(row["held"]),
            str(row["workers"]),
            f"{row['running']} of {row['slots']}",
            str(row["paused"]),
            since((now_ms - row["started"]) / 1000),
        )
    return table.made


def _queues(rows: Iterable[Row], now_ms: float, *, narrow: bool) -> RenderableType:
    table = _Table(narrow, "queue", "class", "tenant", "waiting", "oldest", "-in NATS")
    for row in rows:
        table.add(
            Text(_plain(row["model"]), "bold"),
            Text(Priority(row["class"]).label, _CLASS_STYLES[row["class"]]),
            _plain(row["tenant"]),
            str(_depth(row)),
            _oldest(row, now_ms),
            str(row["backlog"]),
        )
    return table.made


def _oldest(row: Row, now_ms: float) -> str:
    """Of what nobody holds only the broker knows the age: it is more than it has been seen for."""
    if row["oldest"]:
        return since((now_ms - row["oldest"]) / 1000)
    return f"over {since((now_ms - row['since']) / 1000)}" if row["since"] else ""


def _workers(rows: Iterable[Row], now_ms: float, *, narrow: bool) -> RenderableType:
    lanes = "lanes" if narrow else "lanes: requests × context by lane, ‖ paused"
    table = _Table(narrow, "worker", "-at", "state", "running", lanes)
    for row in rows:
        batches = row["batches"]
        running = sum(not batch[8] for batch in batches)
        lost = f"lost {since((now_ms - row['lost']) / 1000)} ago" if row["lost"] else ""
        table.add(
            Text(_plain(row["name"]), "bold"),
            _plain(f"{row['router']} ({row['device']})"),
            _state(row, silent=lost),
            f"{running} of {row['slots']}",
            _lanes(batches),
        )
    return table.made


def _lanes(batches: Iterable[list[Any]]) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for _, _, _, priority, entries, context, _, _, paused in batches:
        line.append(f"{'‖' if paused else '▪'}{entries}×{context} ", _CLASS_STYLES[priority])
    return line


def _state(row: Row, *, silent: str) -> Text:
    if silent:
        return Text(silent, "bold red")
    return Text("draining", "yellow") if row["draining"] else Text("serving")


class _Table:
    """A table without its columns that begin with `-`, where there is no room for them.

    What is long, names and lanes, gives way to what is short.
    """

    def __init__(self, narrow: bool, *columns: str) -> None:
        self.made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        self._shown = [not (narrow and column.startswith("-")) for column in columns]
        for place, column in enumerate(columns):
            if self._shown[place]:
                name = column.removeprefix("-")
                self.made.add_column(
                    name,
                    justify="right" if name in _NUMBERS else "left",
                    no_wrap=True,
                    min_width=len(name) if name in (*_NUMBERS, *_SHORT) else None,
                )

    def add(self, *cells: str | Text) -> None:
        self.made.add_row(*(cell for cell, shown in zip(cells, self._shown, strict=True) if shown))


def _depth(row: Row) -> int:
    return int(row["held"]) + int(row["backlog"])


def seconds(value: float | None) -> str:
    """`–`, `28 ms`, `1.4 s`."""
    if value is None:
        return "–"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _plain(text: str) -> str:
    return harmless(text, sys.stdout)
