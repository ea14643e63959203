"""A short run of the harness: CI's share of it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.options import Options
from tests.chaos.run import Run
from tests.chaos.schedule import Act, draw_schedule

pytestmark = pytest.mark.integration

SEED = 8
DURATION_S, EVERY_S = 30.0, 2.0


async def test_nothing_is_lost_while_processes_die(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some eight kills, hangs and drains besides, under load of every kind of client: each accepted request has one
    outcome, the one of the undisturbed run; no stream has a gap or a repeat; nothing is left behind.
    """
    options = Options(seed=SEED, duration_s=DURATION_S, every_s=EVERY_S, clients=18)
    report = await Run(options, tmp_path / "run", print).run()
    told = "\n".join(report.notes)
    assert not sum(report.violations.values()), f"{dict(report.violations)}\n{told}"
    assert report.kills >= 8
    assert report.accepted >= 150


def test_a_seed_gives_one_schedule() -> None:
    """So that a failing run can be replayed; and it holds every act."""
    first, again = (
        draw_schedule(random.Random(SEED), duration_s=DURATION_S, every_s=EVERY_S) for _ in range(2)
    )
    assert first == again
    assert {blow.act for blow in first} == set(Act)
    assert draw_schedule(random.Random(SEED + 1), duration_s=DURATION_S, every_s=EVERY_S) != first
