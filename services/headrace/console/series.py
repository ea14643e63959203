"""The last minutes as points, one a second: what is plotted.

How quick answers are is taken from the routers' counts by bucket: what was added within the last seconds, together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, TypeAlias

from headrace.contract.state import BOUNDS_S, BUCKETS, FIRST_BOUND_S, RouterState
from headrace.contract.values import Priority

KEPT = 600
"""Points: ten minutes."""
WINDOW = 10
"""Points over which quantiles are taken: shorter, and a mesh with little to do would show noise."""
ALL = len(Priority)
"""The place of all classes together, behind the classes."""

Point: TypeAlias = dict[str, Any]
Counts: TypeAlias = list[list[int]]
"""By class and bucket."""


@dataclass(slots=True)
class _Before:
    started_s: float
    tokens: int
    ended: int
    failed: int
    first: Counts
    inter: Counts


class Series:
    """The points. One writer: `add`."""

    def __init__(self) -> None:
        self._points: deque[tuple[int, Point]] = deque(maxlen=KEPT)
        self._number = 0
        self._before: dict[str, _Before] = {}
        self._firsts: deque[Counts] = deque(maxlen=WINDOW)
        self._inters: deque[Counts] = deque(maxlen=WINDOW)

    def add(self, states: Iterable[RouterState], *, now_s: float, over_s: float) -> None:
        """A point for the last `over_s` seconds; a router that is new, or was started anew, counts from now on."""
        tokens = ended = failed = running = paused = 0
        waiting = [0] * len(Priority)
        firsts, inters = _none(), _none()
        seen: dict[str, _Before] = {}
        backlogs: dict[tuple[str, int, str], int] = {}
        for state in states:
            after = seen[state.router] = _of(state)
            before = self._before.get(state.router)
            if before is not None and before.started_s == after.started_s:
                tokens += max(0, after.tokens - before.tokens)
                ended += max(0, after.ended - before.ended)
                failed += max(0, after.failed - before.failed)
                _add(firsts, after.first, before.first)
                _add(inters, after.inter, before.inter)
            for queue in state.queues:
                waiting[queue.priority] += queue.waiting
                key = (queue.model, queue.priority, queue.tenant)
                backlogs[key] = max(backlogs.get(key, 0), queue.backlog)
            for worker in state.workers:
                for batch in worker.batches:
                    running += 0 if batch.paused_ms else batch.entries
                    paused += batch.entries if batch.paused_ms else 0
        for (_, priority, _), count in backlogs.items():
            waiting[priority] += count
        self._before = {**self._before, **seen} if len(self._before) < 64 else seen
        self._firsts.append(firsts)
        self._inters.append(inters)
        first, inter = _together(self._firsts), _together(self._inters)
        self._number += 1
        point: Point = {
            "t": round(now_s, 1),
            "tokens": round(tokens / over_s, 1),
            "ended": round(ended / over_s, 2),
            "failed": round(failed / over_s, 2),
            "running": running,
            "paused": paused,
            "waiting": waiting,
            **_times(first, inter),
        }
        self._points.append((self._number, point))

    @property
    def number(self) -> int:
        """Of the latest point; 0 = there is none."""
        return self._number

    @property
    def latest(self) -> Point | None:
        return self._points[-1][1] if self._points else None

    def since(self, number: int) -> list[Point]:
        """The points after that one, as far as they are kept."""
        return [point for at, point in self._points if at > number]


def since_the_start(states: Iterable[RouterState]) -> Point:
    """The times of all answers since each router started, for whoever looks only once."""
    first, inter = _none(), _none()
    for state in states:
        told = _of(state)
        _add(first, told.first, _none())
        _add(inter, told.inter, _none())
    return _times(first, inter)


def _times(first: Counts, inter: Counts) -> Point:
    """Medians and 99th percentiles, by class and of all together."""
    return {
        f"{name}{share:.0%}".rstrip("%"): [quantile(by_class, share) for by_class in counts]
        for name, counts in (("first", first), ("inter", inter))
        for share in (0.5, 0.99)
    }


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Seconds below which that share of what was counted lies, to within a bucket; None where nothing was counted."""
    total = sum(counts)
    if not total:
        return None
    wanted, before = share * total, 0
    for place, count in enumerate(counts):
        if before + count >= wanted and count:
            low = BOUNDS_S[place - 1] if place else FIRST_BOUND_S / sqrt(2)
            inside = (wanted - before) / count
            return float(f"{low * sqrt(2) ** inside:.4g}")
        before += count
    return None


def _none() -> Counts:
    return [[0] * BUCKETS for _ in range(ALL + 1)]


def _of(state: RouterState) -> _Before:
    first, inter = _none(), _none()
    for timing in state.timings:
        for counts, told in ((first, timing.first_token), (inter, timing.inter_token)):
            if len(told) == BUCKETS:
                counts[timing.priority] = list(told)
    totals = state.totals
    failed = totals.failed + totals.expired + totals.rejected
    return _Before(
        started_s=state.started_s,
        tokens=totals.tokens,
        ended=totals.completed + totals.cancelled + failed,
        failed=failed,
        first=first,
        inter=inter,
    )


def _add(into: Counts, after: Counts, before: Counts) -> None:
    for priority in Priority:
        for place in range(BUCKETS):
            more = max(0, after[priority][place] - before[priority][place])
            into[priority][place] += more
            into[ALL][place] += more


def _together(window: Iterable[Counts]) -> Counts:
    total = _none()
    for counts in window:
        for mine, those in zip(total, counts, strict=True):
            for place, count in enumerate(those):
                if count:
                    mine[place] += count
    return total
