"""When a child comes back."""

from __future__ import annotations

from headrace.cli.restarts import FIRST_WAIT_S, LONGEST_WAIT_S, STEADY_S, Restarts


def test_a_single_fall_is_mended_at_once() -> None:
    """A child that ran well is started again without a wait, each time."""
    restarts = Restarts()
    assert [restarts.wait_s(STEADY_S + 1) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_a_crash_loop_is_slowed_down_to_a_limit() -> None:
    """Falls in a row wait twice as long each time, and never longer than the limit."""
    restarts = Restarts()
    waits = [restarts.wait_s(0.1) for _ in range(200)]
    assert waits[:4] == [0.0, FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT_S


def test_a_steady_run_ends_the_row() -> None:
    """After a child has run well, its next fall is the first again."""
    restarts = Restarts()
    for _ in range(5):
        restarts.wait_s(0.1)
    assert restarts.wait_s(STEADY_S) == 0.0
