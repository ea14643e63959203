"""Charts as SVG text: lines with bands over a number, and bars. Their colours are the page's, by class name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 480, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 42
_TICKS = 5
_SMALLEST = 1e-4
"""Below it, a logarithmic scale shows nothing."""


@dataclass(frozen=True, slots=True)
class Dot:
    """A value with its interval."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Series:
    """What one policy comes to; `number` chooses the colour."""

    name: str
    number: int
    dots: tuple[Dot, ...]


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    logarithmic: bool
    start: float
    end: float

    def at(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = log10(low), log10(high), log10(max(value, _SMALLEST))
        share = (value - low) / ((high - low) or 1.0)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            first, last = round(log10(self.low)), round(log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        step = _nice((self.high - self.low) / _TICKS)
        first = ceil(self.low / step - 1e-9)
        return [step * number for number in range(first, floor(self.high / step + 1e-9) + 1)]


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    y_high: float | None = None,
    logarithmic: bool = False,
    objective: float | None = None,
) -> str:
    """One line for each series, with a band from `low` to `high`; a dashed line at `objective`."""
    dots = [dot for one in series for dot in one.dots]
    x_low, x_high = _around([dot.x for dot in dots])
    x = _Scale(x_low, x_high, False, _LEFT, WIDTH - _RIGHT)
    y = _y_scale([*(dot.low for dot in dots), *(dot.high for dot in dots)], objective, y_high, logarithmic)
    parts = [_axes(x, y, x_label, y_label)]
    if objective is not None:
        parts.append(
            f'<line class="goal" x1="{_LEFT}" x2="{WIDTH - _RIGHT}"'
            f' y1="{y.at(objective):.1f}" y2="{y.at(objective):.1f}"/>'
        )
    parts += [_line(one, x, y) for one in series]
    return _svg(f"{y_label} by {x_label}", parts)


def bar_chart(series: Sequence[Series], *, y_label: str) -> str:
    """One bar for each series' first dot, with its interval."""
    dots = [one.dots[0] for one in series]
    y = _y_scale([dot.high for dot in dots], None, None, False)
    width = (WIDTH - _LEFT - _RIGHT) / max(1, len(series))
    parts = [_axes(None, y, "", y_label)]
    for place, (one, dot) in enumerate(zip(series, dots, strict=True)):
        left, middle = _LEFT + width * (place + 0.2), _LEFT + width * (place + 0.5)
        parts.append(
            f'<rect class="f{one.number}" x="{left:.1f}" width="{width * 0.6:.1f}"'
            f' y="{y.at(dot.y):.1f}" height="{y.start - y.at(dot.y):.1f}">'
            f"<title>{escape(one.name)}: {_number(dot.y)} ({_number(dot.low)} – {_number(dot.high)})</title></rect>"
            f'<line class="whisker" x1="{middle:.1f}" x2="{middle:.1f}"'
            f' y1="{y.at(dot.low):.1f}" y2="{y.at(dot.high):.1f}"/>'
            f'<text x="{middle:.1f}" y="{y.start + 16}" text-anchor="middle">{escape(one.name)}</text>'
        )
    return _svg(y_label, parts)


def _y_scale(
    values: Sequence[float], objective: float | None, high: float | None, logarithmic: bool
) -> _Scale:
    values = [*values, *([objective] if objective is not None else [])]
    top = high if high is not None else max(values, default=1.0) or 1.0
    start, end = HEIGHT - _BOTTOM, _TOP
    if not logarithmic:
        step = _nice(top / _TICKS)
        return _Scale(0.0, top if high is not None else ceil(top / step) * step, False, start, end)
    least = max(_SMALLEST, min((value for value in values if value > 0), default=_SMALLEST))
    low_power, high_power = floor(log10(least)), ceil(log10(max(top, _SMALLEST)))
    return _Scale(10.0**low_power, 10.0 ** max(high_power, low_power + 1), True, start, end)


def _axes(x: _Scale | None, y: _Scale, x_label: str, y_label: str) -> str:
    parts = []
    for tick in y.ticks():
        at = y.at(tick)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_number(tick)}</text>'
        )
    for tick in x.ticks() if x else ():
        parts.append(
            f'<text x="{x.at(tick) if x else 0:.1f}" y="{HEIGHT - _BOTTOM + 16}"'
            f' text-anchor="middle">{_number(tick)}</text>'
        )
    middle = (HEIGHT - _BOTTOM + _TOP) / 2
    parts.append(
        f'<text class="label" x="{(WIDTH + _LEFT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text class="label" x="12" y="{middle}" text-anchor="middle"'
        f' transform="rotate(-90 12 {middle})">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _line(one: Series, x: _Scale, y: _Scale) -> str:
    dots = sorted(one.dots, key=lambda dot: dot.x)
    upper = [f"{x.at(dot.x):.1f},{y.at(dot.high):.1f}" for dot in dots]
    lower = [f"{x.at(dot.x):.1f},{y.at(dot.low):.1f}" for dot in reversed(dots)]
    middle = " ".join(f"{x.at(dot.x):.1f},{y.at(dot.y):.1f}" for dot in dots)
    marks = "".join(
        f'<circle class="f{one.number}" cx="{x.at(dot.x):.1f}" cy="{y.at(dot.y):.1f}" r="3.2">'
        f"<title>{escape(one.name)} at {_number(dot.x)}: {_number(dot.y)}"
        f" ({_number(dot.low)} – {_number(dot.high)})</title></circle>"
        for dot in dots
    )
    band = f'<polygon class="f{one.number} band" points="{" ".join(upper + lower)}"/>'
    return f'{band}<polyline class="s{one.number}" points="{middle}"/>{marks}'


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _around(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = (high - low) * 0.04 or 0.5
    return low - room, high + room


def _nice(step: float) -> float:
    """The next of 1, 2, 5, 10 … that is not below."""
    power = 10.0 ** floor(log10(step)) if step > 0 else 1.0
    return next(power * many for many in (1, 2, 5, 10) if power * many >= step * (1 - 1e-9))


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
