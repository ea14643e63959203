"""How long streams stood still after each kind of blow."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.asked import Way
from tests.chaos.blows import Struck
from tests.chaos.seen import Seen

STALLED_S = 0.3
"""A pause that is noticed; steps take some hundredths."""
REACH_S = 3.0
"""Pauses that begin so long after a blow are another's: a loss may be noticed that late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalls:
    """Of one kind of blow, over all streams that ran when one fell."""

    kind: str
    blows: int
    streams: int
    stalled: int
    p50_s: float
    """Of those that stalled."""
    p99_s: float
    most_s: float


def stalls_by_kind(struck: Sequence[Struck], all_seen: Sequence[Seen]) -> list[Stalls]:
    """Longest pause between two arrivals that a blow fell into, or that began soon after it."""
    readers = [seen for seen in all_seen if len(seen.arrived_s) > 1 and seen.asked.way is not Way.SLOW]
    pauses: dict[str, list[float]] = defaultdict(list)
    blows: dict[str, int] = defaultdict(int)
    for hit in struck:
        blows[hit.blow.kind] += 1
        for seen in readers:
            times = seen.arrived_s
            if times[0] <= hit.began_s < times[-1]:
                pauses[hit.blow.kind].append(_longest(times, hit.began_s))
    return [_stalls(kind, blows[kind], pauses[kind]) for kind in sorted(blows)]


def _longest(times: Sequence[float], hit_s: float) -> float:
    first = bisect_right(times, hit_s)
    longest = 0.0
    for index in range(first, len(times)):
        if times[index - 1] > hit_s + REACH_S:
            break
        longest = max(longest, times[index] - times[index - 1])
    return longest


def _stalls(kind: str, blows: int, pauses: Sequence[float]) -> Stalls:
    stalled = sorted(pause for pause in pauses if pause >= STALLED_S)
    return Stalls(
        kind=kind,
        blows=blows,
        streams=len(pauses),
        stalled=len(stalled),
        p50_s=_quantile(stalled, 0.5),
        p99_s=_quantile(stalled, 0.99),
        most_s=stalled[-1] if stalled else 0.0,
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
