"""What a study found, for a terminal: medians over the seeds, with the least and the most of the goodput."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from headrace.simulator.figures import Figures, Part
from headrace.simulator.flood import FLOODER
from headrace.simulator.report import Report
from headrace.simulator.study import Capacity, Point

_EMPTY = Part(
    requests=0,
    goodput=0.0,
    goodput_tokens=0.0,
    late=0.0,
    slow=0.0,
    first_token_p50_s=0.0,
    first_token_p99_s=0.0,
    token_p50_s=0.0,
    token_p99_s=0.0,
)


def print_report(console: Console, report: Report) -> None:
    """Tables, and what they are about."""
    console.print(f"[dim]{'; '.join(f'{name}: {value}' for name, value in report.settings.items())}[/]")
    asked = (
        f"{name}: first token {one.first_token_s:.3g} s, then {one.token_s * 1e3:.3g} ms a token"
        for name, one in report.objectives.items()
    )
    console.print(f"[dim]objectives: {'; '.join(asked)}[/]")
    findings = report.findings
    if findings.capacities:
        console.print(_capacities(findings.capacities))
    if findings.points:
        console.print(_points("Under load", findings.points, list(report.objectives)))
        console.print(_more("The fleet, and who got it", findings.points))
    if findings.overload:
        console.print(_points("At twice the capacity", findings.overload, list(report.objectives)))


def load_text(offered: float) -> str:
    """An offered load, in tokens a second."""
    return f"{offered:g}" if offered else "all at once"


def seconds(value: float) -> str:
    """Three digits."""
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.3g} s"


def _capacities(capacities: Sequence[Capacity]) -> Table:
    table = _table("Most tokens/s with 99 % of the requests served well", "policy", "best setup")
    for name in ("tokens/s", "least – most"):
        table.add_column(name, justify="right")
    for one in capacities:
        limit = one.tokens_per_s
        table.add_row(one.policy, one.setup, f"{limit.median:.0f}", f"{limit.low:.0f} – {limit.high:.0f}")
    return table


def _points(title: str, points: Sequence[Point], classes: Sequence[str]) -> Table:
    table = _table(f"{title}: goodput, and first token p50 / p99", "tokens/s", "policy", "best setup")
    for name in ("requests", "least – most", "tokens", "late", "slow", "shed", *classes):
        table.add_column(name, justify="right")
    last = None
    for point in points:
        good = point.over_seeds(lambda figures: figures.goodput)
        table.add_row(
            "" if last == point.offered else load_text(point.offered),
            point.policy,
            point.setup,
            _percent(good.median),
            f"{_percent(good.low)} – {_percent(good.high)}",
            _percent(point.over_seeds(lambda figures: figures.goodput_tokens).median),
            _percent(point.over_seeds(lambda figures: figures.late).median),
            _percent(point.over_seeds(lambda figures: figures.slow).median),
            _percent(point.over_seeds(lambda figures: figures.shed).median),
            *(_first_token(point, name) for name in classes),
        )
        last = point.offered
    return table


def _first_token(point: Point, name: str) -> str:
    p50 = point.over_seeds(lambda figures: _class(figures, name).first_token_p50_s)
    p99 = point.over_seeds(lambda figures: _class(figures, name).first_token_p99_s)
    return f"{seconds(p50.median)} / {seconds(p99.median)}"


def _more(title: str, points: Sequence[Point]) -> Table:
    table = _table(title, "tokens/s", "policy")
    names = ["done/s", "makespan", "busy", "again", "Jain", "largest gap", "token p99"]
    flooded = any(FLOODER in figures.by_tenant for point in points for figures in point.runs)
    for name in [*names, *(["others' goodput", "first token p99"] if flooded else [])]:
        table.add_column(name, justify="right")
    last = None
    for point in points:
        cells = [
            "" if last == point.offered else load_text(point.offered),
            point.policy,
            f"{point.over_seeds(lambda figures: figures.tokens_per_s).median:.0f}",
            seconds(point.over_seeds(lambda figures: figures.makespan_s).median),
            _percent(point.over_seeds(lambda figures: figures.utilisation).median),
            _percent(point.over_seeds(lambda figures: figures.prefill_again).median),
            f"{point.over_seeds(lambda figures: figures.jain).median:.2f}",
            f"{point.over_seeds(lambda figures: figures.gap_tokens).median:,.0f}",
            seconds(point.over_seeds(_token_p99).median),
        ]
        if flooded:
            cells.append(_percent(point.over_seeds(others_goodput).median))
            cells.append(seconds(point.over_seeds(others_first_token).median))
        table.add_row(*cells)
        last = point.offered
    return table


def others_first_token(figures: Figures) -> float:
    """The p99 of the worst served tenant that does not flood."""
    parts = (part for name, part in figures.by_tenant.items() if name != FLOODER)
    return max((part.first_token_p99_s for part in parts), default=0.0)


def others_goodput(figures: Figures) -> float:
    """Of the requests of the tenants that do not flood."""
    parts = [part for name, part in figures.by_tenant.items() if name != FLOODER]
    return sum(part.goodput * part.requests for part in parts) / (sum(part.requests for part in parts) or 1)


def _token_p99(figures: Figures) -> float:
    return max(part.token_p99_s for part in figures.by_class.values())


def _class(figures: Figures, name: str) -> Part:
    return figures.by_class.get(name, _EMPTY)


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column == "tokens/s" else "left", no_wrap=True)
    return table
