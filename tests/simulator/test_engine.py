"""The virtual engine: lockstep, slots, pauses and stops."""

from __future__ import annotations

import pytest

from headrace.router.core.lockstep import moments_s
from headrace.simulator.engine import Entry
from tests.simulator.virtual import COSTS, Bench, life

NEAR = 1e-9


def test_a_batch_takes_what_lockstep_says() -> None:
    """First and last tokens of a mixed batch come at the moments that the core's own formula gives."""
    extents = [(40, 30), (10, 5), (25, 1), (25, 60)]
    lives = [life(prompt, output, index) for index, (prompt, output) in enumerate(extents)]
    bench = Bench()
    bench.worker.start(0, 1, [Entry(one) for one in lives])
    bench.run()
    for one, (first_s, last_s) in zip(lives, moments_s(COSTS, extents), strict=True):
        assert (one.first_s, one.last_s) == pytest.approx((first_s, last_s), abs=NEAR)
    assert bench.heard.tokens == {index: output for index, (_, output) in enumerate(extents)}
    assert bench.heard.said[-1] == (pytest.approx(max(one.last_s for one in lives)), "freed", 0)
    assert bench.worker.busy_s == pytest.approx(bench.clock.now)


def test_a_longer_prompt_catches_up_step_by_step() -> None:
    """Two entries of 10 and 12 tokens: the longer catches up for two steps, and then decodes alone."""
    short, long = life(10, 3, 0), life(12, 2, 1)
    bench = Bench()
    bench.worker.start(0, 1, [Entry(short), Entry(long)])
    bench.run()
    prefill_s = COSTS.prefill(2, 9)
    steps_s = [COSTS.steps(2, 10 + number, 1) for number in range(3)]
    assert short.first_s == pytest.approx(prefill_s + steps_s[0])
    assert short.last_s == pytest.approx(prefill_s + sum(steps_s))
    assert long.first_s == pytest.approx(prefill_s + sum(steps_s))  # two steps of catching up before it
    assert long.last_s == pytest.approx(prefill_s + sum(steps_s) + COSTS.steps(1, 13, 1))


def test_a_pause_shifts_the_end_by_itself() -> None:
    """It holds from the end of the step that runs to the resumption, and all that comes after is as much later."""
    plain, paused = life(20, 40, 0), life(20, 40, 1)
    bench = Bench()
    bench.worker.start(0, 1, [Entry(plain)])
    bench.run()

    bench = Bench()
    bench.worker.start(0, 1, [Entry(paused)])
    bench.at(0.3, lambda: bench.worker.pause(1))
    bench.at(2.0, lambda: bench.worker.resume(1))
    bench.run()
    boundary_s = min(
        at_s for steps in range(1, 41) if (at_s := COSTS.prefill(1, 19) + COSTS.steps(1, 20, steps)) >= 0.3
    )
    assert paused.last_s - plain.last_s == pytest.approx(2.0 - boundary_s, abs=NEAR)
    assert paused.first_s == plain.first_s
    assert bench.worker.busy_s == pytest.approx(plain.last_s)


def test_a_pause_lets_another_batch_have_the_slot() -> None:
    """What waits for a slot starts when the paused one has ended its step, and the paused one goes on after it."""
    slow, quick = life(20, 60, 0), life(10, 4, 1)
    bench = Bench()
    bench.worker.start(0, 1, [Entry(slow)])
    bench.at(0.2, lambda: bench.worker.start(1, 2, [Entry(quick)]))
    bench.at(0.3, lambda: bench.worker.pause(1))
    bench.at(0.33, lambda: bench.worker.resume(1))
    bench.run()
    words = [said[1:] for said in bench.heard.said if said[1] != "progressed"]
    assert words == [("ended", 1), ("freed", 1), ("ended", 0), ("freed", 0)]
    assert quick.start_s >= 0.3
    assert quick.last_s - quick.start_s == pytest.approx(COSTS.prefill(1, 9) + COSTS.steps(1, 10, 4))
    assert bench.worker.busy_s == pytest.approx(bench.clock.now)  # the slot was never idle


def test_a_pause_taken_back_in_time_changes_nothing() -> None:
    """Paused and resumed within one step."""
    plain, other = life(20, 40, 0), life(20, 40, 1)
    first, second = Bench(), Bench()
    first.worker.start(0, 1, [Entry(plain)])
    second.worker.start(0, 1, [Entry(other)])
    second.at(0.3, lambda: second.worker.pause(1))
    second.at(0.3, lambda: second.worker.resume(1))
    first.run()
    second.run()
    assert other.last_s == pytest.approx(plain.last_s, abs=NEAR)


def test_a_stopped_entry_leaves_with_the_step() -> None:
    """The others go on in the smaller batch; nothing more is heard of the one that was stopped."""
    stays, goes = life(20, 40, 0), life(20, 40, 1)
    bench = Bench()
    bench.worker.start(0, 1, [Entry(stays, 7), Entry(goes, 8)])
    bench.at(0.3, lambda: bench.worker.stop(8))
    bench.run()
    assert ("ended", 1) not in [said[1:] for said in bench.heard.said]
    steps = next(n for n in range(1, 41) if COSTS.prefill(2, 19) + COSTS.steps(2, 20, n) >= 0.3)
    expected_s = COSTS.prefill(2, 19) + COSTS.steps(2, 20, steps) + COSTS.steps(1, 20 + steps, 40 - steps)
    assert stays.last_s == pytest.approx(expected_s)


@pytest.mark.parametrize("paused", [False, True])
def test_a_batch_of_stopped_entries_frees_its_lane(paused: bool) -> None:
    """Whether it runs or is paused."""
    bench = Bench()
    bench.worker.start(0, 1, [Entry(life(20, 40), 7)])
    if paused:
        bench.at(0.2, lambda: bench.worker.pause(1))
    bench.at(0.3, lambda: bench.worker.stop(7))
    bench.run()
    assert bench.heard.said[-1][1:] == ("freed", 0)
    assert bench.worker.lanes == [None, None]


def test_a_batch_that_waits_for_a_slot_can_be_stopped() -> None:
    """It never runs, and its lane is free."""
    bench = Bench()
    bench.worker.start(0, 1, [Entry(life(20, 40, 0), 7)])
    bench.worker.start(1, 2, [Entry(life(20, 40, 1), 8)])
    bench.at(0.1, lambda: bench.worker.stop(8))
    bench.run()
    assert [said[1:] for said in bench.heard.said if said[1] == "freed"] == [("freed", 1), ("freed", 0)]
    assert 1 not in bench.heard.tokens
