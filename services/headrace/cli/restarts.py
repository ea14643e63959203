"""When a child that has ended is started again: at once, then later and later, so that a crash loop costs little."""

from __future__ import annotations

FIRST_WAIT_S = 0.25
"""Before the second restart in a row; doubled each time. The first one comes at once: most falls are single ones."""

LONGEST_WAIT_S = 10.0
"""Between restarts of a child that keeps falling: how late it comes back at worst once its cause is gone."""

STEADY_S = 10.0
"""A child that ran for so long had started well: its next fall counts as the first one again."""


class Restarts:
    """The waits of one child. Writer of `_in_a_row`: `wait_s`."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def __repr__(self) -> str:
        return f"<Restarts {self._in_a_row} in a row>"

    def wait_s(self, ran_s: float) -> float:
        """Seconds to wait before the next start of a child that ended after `ran_s`."""
        if ran_s >= STEADY_S:
            self._in_a_row = 0
        falls, self._in_a_row = self._in_a_row, self._in_a_row + 1
        # The exponent is bounded: a loop that runs for weeks would overflow a float.
        return 0.0 if falls == 0 else min(FIRST_WAIT_S * 2 ** min(falls - 1, 16), LONGEST_WAIT_S)
