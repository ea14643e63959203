"""What operators watch Headrace with is true: it names what processes expose, and the tools accept it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy.grafana.build import DASHBOARDS, files
from deploy.metrics import FILE, table

from headrace.contract.values import OutcomeKind, Priority
from headrace.runtime import trace_names
from headrace.runtime.metric_names import instruments
from tests.prometheus import promtool, series_names

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus/headrace.rules.yml"
COLLECTOR = DEPLOY / "otel-collector/collector.yaml"

_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_STRING = re.compile(r'"[^"]*"')
_LABELS = re.compile(r"\b(?:by|on|ignoring|group_left|without)\s*\([^)]*\)|[a-z_]+\s*(?==~|!=|!~|=(?!=))")
_DURATION = re.compile(r"\[[^\]]*\]")
_OURS = re.compile(r"up$|(headrace|gen_ai|rpc|messaging|process)[_:]")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def known() -> set[str]:
    """What a query may name: series that processes expose, and what rules record of them."""
    exposed = {name for instrument in instruments() for name in series_names(instrument)}
    return exposed | {rule["record"] for rule in rules() if "record" in rule}


def labels_known() -> set[str]:
    """Labels of ours, and those that Prometheus, its service discovery and histograms add."""
    ours = {label.replace(".", "_") for instrument in instruments() for label in instrument.labels}
    return ours | {"le", "instance", "job", "headrace_kind", "headrace_member"}


def metrics_in(expression: str) -> set[str]:
    """The metrics that an expression names."""
    bare = _LABELS.sub(" ", _DURATION.sub(" ", _STRING.sub('""', expression)))
    return {word for word in _WORD.findall(bare) if _OURS.match(word)}


def labels_in(expression: str) -> set[str]:
    """The labels that an expression selects by or sums by."""
    bare = _DURATION.sub(" ", _STRING.sub('""', expression))
    found = set()
    for part in _LABELS.findall(bare):
        inner = part.partition("(")[2] or part
        found |= set(_WORD.findall(inner.removesuffix(")")))
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """(where, expression) of everything that is shipped."""
    for rule in rules():
        yield rule.get("record") or rule["alert"], rule["expr"]
    for dashboard in DASHBOARDS:
        for row in dashboard.rows:
            for panel in row:
                for expression, _ in panel.series:
                    yield f"{dashboard.name}: {panel.title}", expression


def test_every_query_names_what_is_exposed() -> None:
    """No panel is empty, and no alert mute, because of a name: metrics and labels are those that processes expose."""
    for where, expression in expressions():
        named = metrics_in(expression)
        assert named, f"{where} names no metric: {expression}"
        assert named <= known() | {"up"}, f"{where}: {named - known()}"
        assert labels_in(expression) <= labels_known(), f"{where}: {labels_in(expression) - labels_known()}"


def test_the_table_of_metrics_is_as_written() -> None:
    """What is exposed, in words, is what `python -m deploy.metrics` writes of it."""
    assert FILE.read_text() == table(), "run: python -m deploy.metrics"


def test_every_metric_is_shown() -> None:
    """Each metric has its place on a dashboard or in a rule."""
    used = {name for _, expression in expressions() for name in metrics_in(expression)}
    unseen = {instrument.name for instrument in instruments() if used.isdisjoint(series_names(instrument))}
    assert unseen == set()


def test_the_queries_are_promql(tmp_path: Path) -> None:
    """Prometheus parses every expression of the dashboards."""
    variables = {"$__rate_interval": "5m", "$__range": "1h", "$model": ".*", "$tenant": ".*"}
    parsed = []
    for number, (_, expression) in enumerate(expressions()):
        for name, value in variables.items():
            expression = expression.replace(name, value)
        parsed.append({"record": f"x:{number}", "expr": expression})
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "x", "rules": parsed}]}))  # JSON is YAML
    promtool("check", "rules", str(file))


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_the_dashboards_are_as_built(path: Path) -> None:
    """The JSON is what `python -m deploy.grafana.build` writes, with a data source to choose; no panel overlaps."""
    assert path.read_text() == files()[path], "run: python -m deploy.grafana.build"
    board = json.loads(path.read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert cells.isdisjoint(taken)
        taken |= cells
        assert place["x"] + place["w"] <= 24
        assert panel["description"]
        assert all(target["expr"] for target in panel["targets"])
    assert board["templating"]["list"][0]["type"] == "datasource"


def test_the_rules_do_what_they_say() -> None:
    """promtool checks their syntax, and runs their own tests: what calls, and what does not."""
    promtool("check", "rules", str(RULES))
    promtool("test", "rules", str(RULES.with_suffix(".test.yml")))
    tried = RULES.with_suffix(".test.yml").read_text()
    assert [rule["alert"] for rule in rules() if "alert" in rule and rule["alert"] not in tried] == []


def test_the_prometheus_configuration_is_valid(tmp_path: Path) -> None:
    """As it is shipped, beside its rules and a list of targets."""
    (tmp_path / "prometheus.yml").write_text((DEPLOY / "prometheus/prometheus.yml").read_text())
    (tmp_path / RULES.name).write_text(RULES.read_text())
    (tmp_path / "headrace-targets.json").write_text("[]")
    promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_the_collector_knows_what_it_is_told() -> None:
    """Its pipelines name what it declares, nothing is declared in vain, its policies name attributes of our spans."""
    config = yaml.safe_load(COLLECTOR.read_text())
    pipelines = config["service"]["pipelines"]
    for kind in ("receivers", "processors", "exporters"):
        assert {name for pipeline in pipelines.values() for name in pipeline[kind]} == set(config[kind])
    assert set(config["service"]["extensions"]) == set(config["extensions"])
    for pipeline in pipelines.values():
        assert pipeline["processors"][0] == "memory_limiter"
    sampling = config["processors"]["tail_sampling"]
    assert set(sampling) <= {
        "decision_wait", "num_traces", "expected_new_traces_per_sec", "decision_cache", "policies",
    }  # fmt: skip
    assert len({policy["name"] for policy in sampling["policies"]}) == len(sampling["policies"])
    for policy in flattened(sampling["policies"]):
        check_policy(policy)


_POLICIES: Mapping[str, set[str]] = {
    "status_code": {"status_codes"},
    "string_attribute": {"key", "values"},
    "latency": {"threshold_ms"},
    "probabilistic": {"sampling_percentage"},
    "and": {"and_sub_policy"},
}
"""Types of the collector's policies that are used here, with the keys that each takes."""
_VALUES: Mapping[str, set[str]] = {
    trace_names.OUTCOME: {kind.value for kind in OutcomeKind},
    trace_names.PRIORITY: {priority.label for priority in Priority},
}


def flattened(policies: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for policy in policies:
        yield policy
        if policy["type"] == "and":
            yield from flattened(policy["and"]["and_sub_policy"])


def check_policy(policy: dict[str, Any]) -> None:
    kind = policy["type"]
    assert set(policy) == {"name", "type", kind}
    assert set(policy[kind]) == _POLICIES[kind]
    key = policy[kind].get("key")
    if key is not None:
        assert key in {value for value in vars(trace_names).values() if isinstance(value, str)}
    if kind == "string_attribute":
        assert set(policy[kind]["values"]) <= _VALUES[key]
