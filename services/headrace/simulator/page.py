"""What a study found, as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from html import escape

from headrace.simulator.chart import Dot, Series, bar_chart, line_chart
from headrace.simulator.figures import Figures
from headrace.simulator.flood import FLOODER
from headrace.simulator.report import Report
from headrace.simulator.scenario import POLICIES
from headrace.simulator.study import Capacity, Point
from headrace.simulator.table import load_text, others_first_token, others_goodput, seconds

_OFFERED = "offered output tokens/s"
_COLOURS = ("#0072b2", "#8a8a8a", "#e69f00", "#cc79a7", "#d55e00", "#009e73")
"""By policy, apart for most eyes: Okabe and Ito's."""
_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --dim: #66717d; --rule: #d9dee3; --paper: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaee; --dim: #98a3ae; --rule: #36404a; --paper: #14191f; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 1060px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
p, dl { color: var(--dim); } dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; }
dt { font-weight: 600; } dd { margin: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(330px, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: var(--dim); }
.grid { stroke: var(--rule); } .goal { stroke: var(--ink); stroke-dasharray: 5 4; }
.whisker { stroke: var(--ink); stroke-width: 1.5; } polyline { fill: none; stroke-width: 2; } .band { opacity: .14; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; position: sticky; top: 0; background: var(--paper);
          padding: .4rem 0; border-bottom: 1px solid var(--rule); }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: 50%; margin-right: .4rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:nth-child(2), td:nth-child(2), th:nth-child(3), td:nth-child(3) { text-align: left; }
"""


def page_of(report: Report) -> str:
    """The whole file."""
    findings = report.findings
    colours = "".join(
        f".s{number} {{ stroke: {colour}; }} .f{number} {{ fill: {colour}; }}"
        for number, colour in enumerate(_COLOURS)
    )
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Headrace: simulated policies</title>'
        f"<style>{_STYLE}{colours}</style></head><body><h1>Simulated policies</h1>"
        "<p>Medians over the seeds; bands and whiskers go from the least to the most.</p>",
        _about(report),
        _legend({*(one.policy for one in findings.points), *(one.policy for one in findings.capacities)}),
        _capacities(findings.capacities),
        _charts(report),
        _table("Under load", findings.points, list(report.objectives)),
        _table("At twice the capacity", findings.overload, list(report.objectives)),
        "</body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _about(report: Report) -> str:
    told = {
        **report.settings,
        **{
            f"objectives, {name}": f"first token within {seconds(one.first_token_s)},"
            f" then {one.token_s * 1e3:.3g} ms per token in the mean"
            for name, one in report.objectives.items()
        },
    }
    return f"<dl>{''.join(f'<dt>{escape(n)}</dt><dd>{escape(v)}</dd>' for n, v in told.items())}</dl>"


def _legend(there: Collection[str]) -> str:
    items = (
        f'<span title="{escape(what)}"><i style="background:{_COLOURS[number]}"></i>{escape(name)}</span>'
        for number, (name, what) in enumerate(POLICIES.items())
        if name in there
    )
    return f'<div class="legend">{"".join(items)}</div>'


def _capacities(capacities: Sequence[Capacity]) -> str:
    if not capacities:
        return ""
    bars = [
        Series(one.policy, _number_of(one.policy), (Dot(0.0, limit.median, limit.low, limit.high),))
        for one in capacities
        for limit in [one.tokens_per_s]
    ]
    chart = bar_chart(bars, y_label="output tokens/s")
    title = "Capacity: the most tokens a second with 99 % of the requests served well"
    return f'<h2>{title}</h2><div class="charts"><figure>{chart}</figure></div>'


def _charts(report: Report) -> str:
    points = report.findings.points
    if not points:
        return ""
    figures = [
        _figure("Goodput: requests within their objectives", points, lambda f: f.goodput, share=True),
        _figure("Goodput, by tokens", points, lambda f: f.goodput_tokens, share=True),
    ]
    for name, asked in report.objectives.items():
        figures.append(
            _figure(
                f"First token, p99: {name}",
                points,
                _first_token_p99(name),
                objective=asked.first_token_s,
            )
        )
    figures += [
        _figure("Utilisation: busy slots", points, lambda f: f.utilisation, share=True),
        _figure("Fairness: Jain index of tenants that wait", points, lambda f: f.jain, share=True),
        _figure("Fairness: largest gap in weighted tokens", points, lambda f: f.gap_tokens),
        _figure("Too slow after the first token", points, lambda f: f.slow, share=True),
        _figure("Shed", points, lambda f: f.shed, share=True),
        _figure("Makespan in s", points, lambda f: f.makespan_s),
    ]
    if any(FLOODER in f.by_tenant for point in points for f in point.runs):
        figures += [
            _figure("First token under the flood, p99 of the others", points, others_first_token),
            _figure("Goodput under the flood, of the others", points, others_goodput, share=True),
        ]
    return f'<h2>Under load</h2><div class="charts">{"".join(figures)}</div>'


def _figure(
    title: str,
    points: Sequence[Point],
    value: Callable[[Figures], float],
    *,
    share: bool = False,
    objective: float | None = None,
) -> str:
    lines = []
    for policy in dict.fromkeys(point.policy for point in points):
        dots = []
        for point in points:
            if point.policy == policy:
                found = point.over_seeds(value)
                dots.append(Dot(point.offered, found.median, found.low, found.high))
        lines.append(Series(policy, _number_of(policy), tuple(dots)))
    seconds_asked = "First token" in title
    if len({point.offered for point in points}) == 1:
        chart = bar_chart(lines, y_label="s" if seconds_asked else "")
    else:
        chart = line_chart(
            lines,
            x_label=_OFFERED,
            y_label="s" if seconds_asked else "share" if share else "",
            y_high=1.0 if share else None,
            logarithmic=seconds_asked,
            objective=objective,
        )
    return f"<figure><figcaption>{escape(title)}</figcaption>{chart}</figure>"


def _first_token_p99(name: str) -> Callable[[Figures], float]:
    return lambda figures: figures.by_class[name].first_token_p99_s if name in figures.by_class else 0.0


def _number_of(policy: str) -> int:
    return list(POLICIES).index(policy)


def _table(title: str, points: Sequence[Point], classes: Sequence[str]) -> str:
    if not points:
        return ""
    names = [
        "tokens/s",
        "policy",
        "best setup",
        "goodput",
        "of tokens",
        "late",
        "slow",
        "shed",
        "busy",
        "Jain",
        "gap",
    ]
    names += [f"first token p99, {name}" for name in classes]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for point in points:

        def middle(value: Callable[[Figures], float], point: Point = point) -> float:
            return point.over_seeds(value).median

        cells = [
            load_text(point.offered),
            point.policy,
            point.setup,
            f"{middle(lambda f: f.goodput):.1%}",
            f"{middle(lambda f: f.goodput_tokens):.1%}",
            f"{middle(lambda f: f.late):.1%}",
            f"{middle(lambda f: f.slow):.1%}",
            f"{middle(lambda f: f.shed):.1%}",
            f"{middle(lambda f: f.utilisation):.0%}",
            f"{middle(lambda f: f.jain):.2f}",
            f"{middle(lambda f: f.gap_tokens):,.0f}",
            *(seconds(middle(_first_token_p99(name))) for name in classes),
        ]
        rows.append(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>")
    return (
        f'<h2>{escape(title)}</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
