"""Every policy on the same virtual machines."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

import pytest

from headrace.contract.values import OutcomeKind
from headrace.simulator.asked import Life
from headrace.simulator.figures import Figures
from headrace.simulator.flood import Flood
from headrace.simulator.run import play, simulate
from headrace.simulator.scenario import POLICIES, Scenario, Setup, objectives_of
from tests.simulator.virtual import scenario

SETUPS = {name: Setup(policy=name, max_batch=0 if name == "headrace" else 4, delay=1.0) for name in POLICIES}
EVERY = pytest.mark.parametrize("name", POLICIES)


def played(
    asked: Scenario, name: str, offered: float | None = 500.0, seed: int = 1
) -> tuple[list[Life], Figures]:
    return play(asked, SETUPS[name], seed, offered=offered, objectives=objectives_of(asked))


@EVERY
def test_every_request_ends_once_in_a_possible_order(name: str) -> None:
    """One outcome each; it comes, starts, has a first token and a last one, in this order."""
    asked = scenario(flood=Flood(start_s=5.0, duration_s=10.0, factor=3.0))
    lives, figures = played(asked, name)
    assert [life.outcomes for life in lives] == [1] * len(lives)
    for life in lives:
        if life.outcome is OutcomeKind.COMPLETED:
            assert life.asked.arrival_s <= life.start_s <= life.first_s <= life.last_s
            assert isfinite(life.last_s)
    assert figures.requests == len(lives) > 300
    assert figures.completed + round(figures.shed * len(lives)) == len(lives)
    assert 0 < figures.utilisation <= 1
    assert set(figures.by_class) == {"realtime", "high", "normal"}
    assert set(figures.by_tenant) == {"t1", "t2", "t3", "flood"}


@EVERY
def test_a_seed_gives_the_same_decisions(name: str) -> None:
    """All times are equal to the last bit, and other seeds give others."""
    asked = scenario(120)
    times = [
        [(life.start_s, life.last_s) for life in played(asked, name, seed=seed)[0]] for seed in (3, 3, 4)
    ]
    assert times[0] == times[1] != times[2]


@EVERY
def test_all_at_once_is_all_done(name: str) -> None:
    """A saturated run ends, and keeps the slots busy until near its end."""
    _, figures = played(scenario(120), name, offered=None)
    assert figures.completed == 120
    assert figures.makespan_s > 0


def test_continuous_batching_is_never_slower_than_one_by_one() -> None:
    """The yardstick: on equal machines, all there at once, its best batch ends no later than first come, batch 1."""
    asked = replace(scenario(120), fleet="4x1.0")
    one_by_one = simulate(asked, Setup(policy="fifo-ll", max_batch=1), 1, offered=None)
    best = min(
        simulate(asked, Setup(policy="oracle", max_batch=batch), 1, offered=None).makespan_s
        for batch in (1, 2, 4, 8)
    )
    assert best <= one_by_one.makespan_s


def test_priorities_are_kept_where_a_policy_has_them() -> None:
    """Under too much load, realtime requests wait less than normal ones; first come, first served treats all alike."""
    for name in ("headrace", "priority-ll", "dynamic", "oracle"):
        offered = 4000.0 if name == "oracle" else 900.0
        _, figures = played(scenario(600), name, offered=offered)
        realtime, normal = figures.by_class["realtime"], figures.by_class["normal"]
        assert realtime.first_token_p99_s < normal.first_token_p99_s, name
    _, figures = played(scenario(600), "fifo-ll", offered=900.0)
    ratio = figures.by_class["realtime"].first_token_p50_s / figures.by_class["normal"].first_token_p50_s
    assert 0.6 < ratio < 1.6


def test_a_longer_delay_makes_larger_batches_wait() -> None:
    """Dynamic batching with a delay starts nobody before its batch is full or the delay is over."""
    asked = scenario(60)
    lives, _ = play(
        asked,
        Setup(policy="dynamic", max_batch=8, delay=1000.0),
        1,
        offered=50.0,
        objectives=objectives_of(asked),
    )
    starts = sorted({life.start_s for life in lives})
    assert len(starts) <= len(lives) / 4
