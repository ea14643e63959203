"""A report for a person."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.bench.figures import Figures, Spread
from headrace.bench.report import Report
from headrace.bench.usage import Usage

_NONE = "–"


def print_report(console: Console, report: Report) -> None:
    """Three tables: what came through, how soon, and what it cost."""
    machine = report.machine
    console.print(
        f"[dim]{machine.cores} cores, {machine.system}, Python {machine.python},"
        f" CTranslate2 {machine.versions.get('ctranslate2', '?')}; load before {machine.load_before:.1f}[/]"
    )
    console.print(Group(*_tables(report)))
    if report.errors:
        console.print(Text(f"{report.errors} requests failed: {_errors(report)}", style="bold red"))


def _tables(report: Report) -> Iterator[RenderableType]:
    yield _throughput(report)
    yield _times(report)
    yield _cost(report)


def _throughput(report: Report) -> Table:
    table = _table("Throughput", "", "requests", "errors", "tokens/s", "requests/s", "mesh ÷ engine")
    for phase in report.phases:
        mesh = phase.middle.mesh
        _add_throughput(table, f"[bold]{phase.name}[/]: mesh", mesh, f"[bold]{_ratio(phase.ratio)}[/]")
        best = phase.middle.best()
        for name, direct in phase.middle.direct.items():
            lanes = "1 lane" if direct.lanes == 1 else f"{direct.lanes} lanes"
            shown = _ratio(phase.ratio_to_best) if name == best and direct.by_length else ""
            _add_throughput(table, f"[dim]  engine, {lanes}, {name}[/]", direct.figures, shown)
    return table


def _add_throughput(table: Table, name: str, figures: Figures, ratio: str) -> None:
    table.add_row(
        name,
        str(figures.requests),
        str(sum(figures.errors.values())),
        f"{figures.output_tokens_per_s:.1f}",
        f"{figures.requests_per_s:.2f}",
        ratio,
    )


def _ratio(ratio: float | None) -> str:
    return _NONE if ratio is None else f"{ratio:.2f}"


def _times(report: Report) -> Table:
    table = _table("Times in ms, p50 / p90 / p99", "", "first token", "between tokens", "whole request")
    for phase in report.phases:
        middle = phase.middle
        _add_times(table, f"[bold]{phase.name}[/]: mesh", middle.mesh)
        for name, figures in middle.by_priority.items():
            _add_times(table, f"  {name}", figures)
        for name, direct in middle.direct.items():
            if not direct.by_length:
                _add_times(table, f"[dim]  engine, {name}[/]", direct.figures)
    return table


def _add_times(table: Table, name: str, figures: Figures) -> None:
    table.add_row(
        name, *(_spread(s) for s in (figures.first_token_ms, figures.inter_token_ms, figures.request_ms))
    )


def _spread(spread: Spread) -> str:
    values = (spread.p50, spread.p90, spread.p99)
    return " / ".join(f"{value:.1f}" if value < 100 else f"{value:.0f}" for value in values)


def _cost(report: Report) -> Table:
    names = list(dict.fromkeys(name for phase in report.phases for name in phase.middle.processes))
    table = _table(
        "CPU ms per 1,000 output tokens (most memory, MB)", "", *names, "load gen.", "engine alone"
    )
    for phase in report.phases:
        middle = phase.middle
        direct = next((one for one in middle.direct.values() if not one.by_length), None)
        table.add_row(
            f"[bold]{phase.name}[/]",
            *(_usage(middle.processes.get(name)) for name in names),
            _usage(middle.driver),
            _usage(direct.usage if direct else None),
        )
    return table


def _usage(usage: Usage | None) -> str:
    return f"{usage.cpu_ms_per_1000_tokens:.0f} ({usage.peak_memory_mb:.0f})" if usage else _NONE


def _errors(report: Report) -> str:
    codes: dict[str, int] = {}
    for phase in report.phases:
        for one in phase.rounds:
            for code, count in one.mesh.errors.items():
                codes[code] = codes.get(code, 0) + count
    return ", ".join(f"{count} {code}" for code, count in sorted(codes.items()))


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table
