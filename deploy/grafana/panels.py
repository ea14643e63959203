"""What a dashboard is made of, and how Grafana wants it written: JSON of schema 39, for Grafana 10 or later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
MODEL = "gen_ai_request_model"
CLASS = "headrace_priority"
BY_MODEL = ("model", f"label_values(headrace_batch_size_count, {MODEL})")
MODELS = f'{MODEL}=~"$model"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel: what it shows, in which unit, and the expressions with their legends."""

    title: str
    about: str
    unit: str = "short"
    series: Sequence[tuple[str, str]] = field(default=())
    kind: str = "timeseries"
    stacked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One file."""

    name: str
    about: str
    rows: Sequence[Sequence[Panel]]
    by: Sequence[tuple[str, str]] = ()
    """Variables: (name, the query for its values)."""


def quantiles(metric: str, by: str, *, where: str = "", legend: str) -> list[tuple[str, str]]:
    """The median and what 99 of 100 keep to."""
    found = []
    for quantile, name in ((0.5, "p50"), (0.99, "p99")):
        rate = f"rate({metric}_bucket{{{where}}}[$__rate_interval])"
        by_le = ", ".join(part for part in ("le", by) if part)
        found.append(
            (f"histogram_quantile({quantile}, sum by ({by_le}) ({rate}))", f"{name} {legend}".strip())
        )
    return found


def rate(metric: str, by: str, *, where: str = "", legend: str) -> tuple[str, str]:
    """How often a second."""
    return (f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))", legend)


def built(dashboard: Dashboard) -> dict[str, Any]:
    """As Grafana imports it."""
    return {
        "uid": f"headrace-{dashboard.name}",
        "title": f"Headrace: {dashboard.name}",
        "description": dashboard.about,
        "tags": ["headrace"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["headrace"], "title": "Headrace", "asDropdown": False}],
        "templating": {"list": [_source(), *(_variable(name, query) for name, query in dashboard.by)]},
        "panels": list(_panels(dashboard)),
    }


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
        "sort": 1,
    }


def _panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    number = top = 0
    for row in dashboard.rows:
        width, height = WIDTH // len(row), 4 if all(panel.kind == "stat" for panel in row) else 8
        for place, panel in enumerate(row):
            number += 1
            yield {
                "id": number,
                "type": panel.kind,
                "title": panel.title,
                "description": panel.about,
                "datasource": SOURCE,
                "gridPos": {"x": place * width, "y": top, "w": width, "h": height},
                "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
                "options": _options(panel),
                "targets": list(_targets(panel)),
            }
        top += height


def _defaults(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 20 if panel.stacked else 0,
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "showPoints": "never",
        }
    return defaults


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    if panel.kind == "stat":
        return {
            "reduceOptions": {"calcs": ["lastNotNull"]},
            "textMode": "value_and_name",
            "colorMode": "none",
        }
    return {}


def _targets(panel: Panel) -> Iterator[dict[str, Any]]:
    for place, (expression, legend) in enumerate(panel.series):
        yield {
            "refId": chr(ord("A") + place),
            "datasource": SOURCE,
            "expr": expression,
            "legendFormat": legend or "__auto",
            "exemplar": "_bucket" in expression,
            **({"format": "table", "instant": True} if panel.kind == "table" else {}),
            **({"format": "heatmap"} if panel.kind == "heatmap" else {}),
        }
