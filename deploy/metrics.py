"""Writes `metrics.md` beside it, of all metrics: `python -m deploy.metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from headrace.runtime.metric_names import Instrument, Kind, instruments

FILE = Path(__file__).with_name("metrics.md")
_HEAD = """# Metrics

Written by `python -m deploy.metrics` from [`runtime/metric_names.py`](../services/headrace/runtime/metric_names.py).
The names are OpenTelemetry's, with those that Prometheus shows below them. Labels in *italics* are chosen by callers:
at most `metrics.max_series` combinations of them are told apart, the rest is `other`.

| metric | | unit | labels | |
|---|---|---|---|---|
"""
_UNITS = {"s": "_seconds", "By": "_bytes"}


def prometheus_name(instrument: Instrument) -> str:
    """The name that Prometheus has for it; a histogram's has `_bucket`, `_sum` and `_count` behind it."""
    name = instrument.name.replace(".", "_")
    unit = _UNITS.get(instrument.unit, "")
    name += "" if name.endswith(unit) else unit
    return f"{name}_total" if instrument.kind is Kind.COUNTER else name


def table() -> str:
    """The whole file."""
    return _HEAD + "".join(f"| {' | '.join(_row(instrument))} |\n" for instrument in instruments())


def _row(instrument: Instrument) -> Iterator[str]:
    yield f"`{instrument.name}`<br>`{prometheus_name(instrument)}`"
    yield instrument.kind.value
    yield f"`{instrument.unit}`"
    yield ", ".join(f"*{label}*" if label in instrument.names else label for label in instrument.labels)
    yield instrument.about


if __name__ == "__main__":
    FILE.write_text(table())
