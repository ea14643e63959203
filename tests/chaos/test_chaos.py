"""A short run of the harness: CI's share of it."""

from __future__ import annotations

import random
from itertools import islice, pairwise
from pathlib import Path

import pytest

from tests.chaos.options import Options
from tests.chaos.run import Run
from tests.chaos.schedule import ALONE_S, NATS, Act, Blow, Plan, blows_of

SEED = 8
DURATION_S, EVERY_S = 22.0, 1.3


@pytest.mark.integration
async def test_nothing_is_lost_while_processes_die(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some six kills, and hangs, drains and partitions besides, under load of every kind of client: each accepted
    request has one outcome, the one of the undisturbed run; no stream has a gap or a repeat; nothing is left behind.
    """
    options = Options(seed=SEED, duration_s=DURATION_S, every_s=EVERY_S, clients=18)
    report = await Run(options, tmp_path / "run", print).run()
    told = "\n".join(report.notes)
    assert not sum(report.violations.values()), f"{dict(report.violations)}\n{told}"
    assert report.kills >= 6
    assert report.accepted >= 40, "the load ran"


def _first(seed: int, count: int, plan: Plan) -> list[Blow]:
    return list(islice(blows_of(random.Random(seed), plan), count))


def test_a_seed_gives_one_schedule() -> None:
    """So that a failing run can be replayed; and it holds every act."""
    plan = Plan(every_s=EVERY_S)
    assert _first(SEED, 15, plan) == _first(SEED, 15, plan) != _first(SEED + 1, 15, plan)
    assert {blow.act for blow in _first(SEED, 15, plan)} == set(Act)


def test_every_kind_of_process_is_parted_from_every_other_that_it_needs() -> None:
    """Workers from routers, gateways from routers, and all that need it from the broker."""
    parted = {
        tuple(name.partition("-")[0] for name in pair)
        for blow in _first(SEED, 400, Plan(acts={Act.PART: 1.0}))
        for pair in blow.apart
    }
    assert parted == {("worker", "router"), ("gateway", "router"), ("gateway", NATS), ("router", NATS)}


def test_blows_that_are_to_be_alone_leave_time_to_recover() -> None:
    """From the end of one to the next."""
    blows = _first(SEED, 50, Plan(alone=True))
    assert all(later.at_s - (blow.at_s + blow.down_s) >= ALONE_S for blow, later in pairwise(blows))
