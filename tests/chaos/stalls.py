"""How long streams stood still after each kind of blow."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.asked import Way
from tests.chaos.blows import Struck
from tests.chaos.seen import Seen

STALLED_S = 0.15
"""A pause that is noticed; steps take some hundredths."""
REACH_S = 3.0
"""Pauses that begin so long after a blow are another's: a loss may be noticed that late."""


LONE_S = 4.0
"""A blow is alone where no other process is hit, or back since, less than that before or after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalls:
    """Of one kind of blow, over all streams that ran when one fell."""

    kind: str
    lone: bool
    """Whether only blows count that were alone: what one loss costs. Else other losses prolong the pauses."""
    blows: int
    streams: int
    stalled: int
    p50_s: float
    """Of those that stalled."""
    p99_s: float
    most_s: float


def stalls_by_kind(struck: Sequence[Struck], all_seen: Sequence[Seen]) -> list[Stalls]:
    """Longest pause between two arrivals that a blow fell into, or that began soon after it.

    First of all blows, then of the lone ones.
    """
    return [*_by_kind(struck, all_seen, lone=False), *_by_kind(_alone(struck), all_seen, lone=True)]


def _alone(struck: Sequence[Struck]) -> list[Struck]:
    return [
        hit
        for hit in struck
        if all(
            other is hit or other.began_s > hit.began_s + LONE_S or other.back_s + LONE_S < hit.began_s
            for other in struck
        )
    ]


def _by_kind(struck: Sequence[Struck], all_seen: Sequence[Seen], *, lone: bool) -> list[Stalls]:
    streams = _streams(all_seen)
    pauses: dict[str, list[float]] = defaultdict(list)
    blows: dict[str, int] = defaultdict(int)
    for hit in struck:
        blows[hit.blow.kind] += 1
        for times in streams:
            if times[0] <= hit.began_s < times[-1]:
                pauses[hit.blow.kind].append(_longest(times, hit.began_s))
    return [_stalls(kind, blows[kind], pauses[kind], lone=lone) for kind in sorted(blows)]


def _streams(all_seen: Sequence[Seen]) -> list[Sequence[float]]:
    """The times of arrival of all streams that were read without pauses."""
    readers = [seen for seen in all_seen if seen.asked.way is not Way.SLOW]
    return [stream.at_s for seen in readers for stream in seen.streams if len(stream) > 1]


def longest_pauses(all_seen: Sequence[Seen], count: int) -> list[tuple[float, Seen]]:
    """The streams with the longest pauses between two arrivals."""
    found = [
        (stream.longest_pause_s(), seen)
        for seen in all_seen
        if seen.asked.way is not Way.SLOW
        for stream in seen.streams
    ]
    return sorted(found, key=lambda one: -one[0])[:count]


def _longest(times: Sequence[float], hit_s: float) -> float:
    first = bisect_right(times, hit_s)
    longest = 0.0
    for index in range(first, len(times)):
        if times[index - 1] > hit_s + REACH_S:
            break
        longest = max(longest, times[index] - times[index - 1])
    return longest


def _stalls(kind: str, blows: int, pauses: Sequence[float], *, lone: bool) -> Stalls:
    stalled = sorted(pause for pause in pauses if pause >= STALLED_S)
    return Stalls(
        kind=kind,
        lone=lone,
        blows=blows,
        streams=len(pauses),
        stalled=len(stalled),
        p50_s=_quantile(stalled, 0.5),
        p99_s=_quantile(stalled, 0.99),
        most_s=stalled[-1] if stalled else 0.0,
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
