"""Loads: what they are like, and what a seed and a rate change."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from headrace.contract.errors import InvalidRequest
from headrace.contract.values import Priority
from headrace.simulator.flood import FLOODER, Flood, parse_flood
from headrace.simulator.load import LoadSpec, make_load, max_tokens_of, typical
from tests.simulator.virtual import MIX, write_trace

RECORDED = {"prompt": (1020, 2735, 4142), "output": (129, 424, 601)}
"""p50, p90 and p99 of the conversation trace that the synthetic load is like."""
TOLERANCE = 0.05
"""What 20,000 draws leave to chance."""


def percentiles(values: list[int]) -> tuple[int, ...]:
    ordered = sorted(values)
    return tuple(ordered[int(share * len(ordered))] for share in (0.5, 0.9, 0.99))


def test_the_synthetic_load_has_the_recorded_lengths() -> None:
    """Median, p90 and p99 of prompts and outputs are near those of the trace."""
    load = make_load(LoadSpec(trace=None, requests=20_000, scale_context=1, scale_output=1), 5, offered=100.0)
    prompts = percentiles([asked.prompt_tokens for asked in load])
    outputs = percentiles([asked.output_tokens for asked in load])
    assert prompts == pytest.approx(RECORDED["prompt"], rel=TOLERANCE)
    assert outputs == pytest.approx(RECORDED["output"], rel=TOLERANCE)


@pytest.mark.parametrize("traced", [False, True])
def test_the_offered_load_is_what_was_asked_for(traced: bool, tmp_path: Path) -> None:
    """Output tokens by the time of the last arrival; another rate changes the times alone."""
    trace = write_trace(tmp_path / "trace.csv") if traced else None
    spec = LoadSpec(trace=trace, requests=40, classes=MIX, tenants=3)
    one, two = make_load(spec, 1, offered=100.0), make_load(spec, 1, offered=200.0)
    tokens = sum(asked.output_tokens for asked in one)
    assert one[-1].arrival_s == pytest.approx(tokens / 100.0)
    for slow, fast in zip(one, two, strict=True):
        assert slow.arrival_s == pytest.approx(2 * fast.arrival_s)
        assert (slow.prompt_tokens, slow.output_tokens) == (fast.prompt_tokens, fast.output_tokens)
        assert (slow.priority, slow.tenant) == (fast.priority, fast.tenant)
    assert all(before.arrival_s <= after.arrival_s for before, after in pairwise(one))


def test_a_seed_chooses_a_stretch_of_a_trace(tmp_path: Path) -> None:
    """The same seed the same, another another; and a load longer than the trace begins again at its start."""
    trace = write_trace(tmp_path / "trace.csv", rows=50)
    short = LoadSpec(trace=trace, requests=20)
    assert make_load(short, 1, offered=50.0) == make_load(short, 1, offered=50.0)
    assert make_load(short, 1, offered=50.0) != make_load(short, 2, offered=50.0)
    long = make_load(LoadSpec(trace=trace, requests=120), 1, offered=50.0)
    assert [asked.prompt_tokens for asked in long[50:100]] == [asked.prompt_tokens for asked in long[:50]]
    assert all(before.arrival_s < after.arrival_s for before, after in pairwise(long))


def test_classes_and_tenants_come_as_often_as_they_should() -> None:
    """By their shares; tenants equally."""
    load = make_load(LoadSpec(trace=None, requests=4000, classes=MIX, tenants=4), 1, offered=None)
    realtime = sum(asked.priority is Priority.REALTIME for asked in load) / len(load)
    assert realtime == pytest.approx(0.2, abs=0.03)
    for number in range(1, 5):
        assert sum(asked.tenant == f"t{number}" for asked in load) / 4000 == pytest.approx(0.25, abs=0.03)
    assert {asked.arrival_s for asked in load} == {0.0}


def test_what_a_client_allows_tells_nothing_of_its_output() -> None:
    """It is the same for all, and no output is longer."""
    spec = LoadSpec(trace=None, requests=500, scale_output=3.0)
    load = make_load(spec, 1, offered=100.0)
    assert {asked.max_tokens for asked in load} == {max_tokens_of(spec)} == {333}
    assert max(asked.output_tokens for asked in load) <= 333
    cut = make_load(LoadSpec(trace=None, requests=500, max_tokens=20), 1, offered=100.0)
    assert max(asked.output_tokens for asked in cut) == 20


def test_a_flood_is_one_more_tenant_in_its_time() -> None:
    """It asks so many times as often as the others together, and leaves their requests as they are."""
    calm = LoadSpec(trace=None, requests=2000, tenants=2)
    flooded = LoadSpec(
        trace=None, requests=2000, tenants=2, flood=Flood(start_s=20.0, duration_s=40.0, factor=3.0)
    )
    load = make_load(flooded, 1, offered=500.0)
    extra = [asked for asked in load if asked.tenant == FLOODER]
    assert all(20.0 <= asked.arrival_s <= 60.0 for asked in extra)
    rest = [asked for asked in load if asked.tenant != FLOODER]
    rate = len(rest) / rest[-1].arrival_s
    assert len(extra) == pytest.approx(rate * 3.0 * 40.0, rel=0.15)
    plain = make_load(calm, 1, offered=500.0)
    assert [(a.arrival_s, a.prompt_tokens) for a in rest] == [(a.arrival_s, a.prompt_tokens) for a in plain]


def test_medians_do_not_depend_on_a_seed(tmp_path: Path) -> None:
    """The objectives rest on them."""
    spec = LoadSpec(trace=None, requests=10)
    assert typical(spec) == typical(spec)
    assert typical(spec)[0] == pytest.approx(1020 / 8, rel=TOLERANCE)
    with pytest.raises(InvalidRequest, match="trace"):
        typical(LoadSpec(trace=tmp_path / "none.csv", requests=10))


@pytest.mark.parametrize("text", ["", "1,2", "a,b,c", "-1,2,3", "1,0,3", "1,2,0"])
def test_a_wrong_flood_is_refused(text: str) -> None:
    """With what to write."""
    with pytest.raises(ValueError, match="flood"):
        parse_flood(text)
