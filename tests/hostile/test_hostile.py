"""Hostile messages at a mesh of real processes: nothing dies, nothing vanishes, and good requests are answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.plan import item
from tests.hostile.report import report
from tests.hostile.run import run

SEED = 20261125
COUNT = 1_500


@pytest.mark.integration
async def test_hostile_messages_hurt_nobody(tmp_path: Path) -> None:
    """Each call has a clear status, each queued message an outcome or a dead letter; no process ends, grows or leaks;
    no log shows content; what is asked properly in between is answered as ever. More: `python -m tests.hostile`.
    """
    findings = await run(tmp_path, seed=SEED, numbers=range(COUNT))
    shown = report(findings, seed=SEED, replay=f"python -m tests.hostile --seed {SEED} --count {COUNT}")
    assert not findings.faults, shown
    assert sum(findings.happened.sent.values()) == COUNT
    assert findings.good == COUNT // 50 + 2
    assert findings.accounts.dead, shown
    assert findings.happened.accepted, shown


def test_an_item_follows_from_the_seed_and_its_number_alone() -> None:
    """So a failing one can be thrown again by itself."""
    assert [item(1, number) for number in range(200)] == [item(1, number) for number in reversed(range(200))][
        ::-1
    ]
    assert item(1, 5) != item(2, 5)
