"""Places in the queue, told as they change."""

from __future__ import annotations

import pytest

from headrace.contract.values import QueuePosition
from headrace.router.positions import materially_other


@pytest.mark.parametrize(
    ("told", "now", "other"),
    [
        ((10, 5.0), (10, 5.2), False),
        ((10, 5.0), (9, 4.5), False),
        ((10, 5.0), (7, 5.0), True),
        ((10, 5.0), (10, 3.0), True),
        ((1, 5.0), (0, 5.0), True),
        ((1, 0.02), (1, 0.05), False),
        ((1, None), (1, 2.0), True),
        ((1, None), (1, None), False),
    ],
)
def test_what_is_told_anew(
    told: tuple[int, float | None], now: tuple[int, float | None], other: bool
) -> None:
    """A fifth of the place or of the wait, the first place, and the first estimate."""
    before, after = (QueuePosition(ahead=a, estimated_wait_s=w) for a, w in (told, now))
    assert materially_other(before, after) is other
