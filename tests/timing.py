"""Claims about how soon something happens, on a machine with much else to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

TRIES = 3


async def shortest(measure: Callable[[], Awaitable[float]], *, below_s: float) -> float:
    """The shortest of the times that `measure` gives, in seconds: of the first that is below `below_s`, or of three.
    What else a machine does makes one of them late; a fault makes all of them so.
    """
    best_s = await measure()
    for _ in range(TRIES - 1):
        if best_s < below_s:
            break
        best_s = min(best_s, await measure())
    return best_s
