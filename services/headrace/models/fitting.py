"""What fits where not all that was asked for does."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable


def largest_fit(fits: Callable[[int, int], bool], *, lanes: int, batch: int) -> tuple[int, int] | None:
    """The lanes and entries of each, at most `lanes` and `batch`, with the most entries in all for which
    `fits(lanes, entries)`; of equals the one with fewer lanes. None where not even one entry fits. What is less than
    something that fits must fit too.
    """
    best = (0, 0)
    for count in range(1, lanes + 1):
        most = bisect_left(range(1, batch + 1), True, key=lambda entries: not fits(count, entries))
        if most == 0:
            break
        if count * most > best[0] * best[1]:
            best = (count, most)
    return best if best[0] else None
