"""What requests waited for, as a trace tells it: how many were started before, and whether there was a lane at all."""

from __future__ import annotations

import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import TypeVar

from headrace.contract.values import Priority
from headrace.router.core.scheduler import Load
from headrace.router.ledger import Record
from headrace.runtime import trace_names as names

KEPT_STARTS = 4_096
"""Starts remembered per model and class, and per queue, eight bytes each: who waited for more says as many as are left,
at least half of it."""
KEPT_LINES = 1_024
"""Of both, how many are remembered; the one that began first is forgotten first."""
KEPT_GAPS = 64
"""Times without a lane that are remembered per model."""
_SHORT_S = 0.001

Facts = Mapping[str, bool | int | float | str | list[int]]


class Waits:
    """Watches starts and fleet, and is asked when a request starts, or ends without. All times are Unix times.

    `_classes` and `_queues` hold when requests were started, in order; `_gaps` when a model had no lane here, the
    present one open-ended; `_served` the models that have some. Written by `started` and `fleet`.
    """

    def __init__(self, load: Callable[[str], Load], now: Callable[[], float] = time.time) -> None:
        self._load = load
        self._now = now
        self._began_s = now()
        self._classes: dict[tuple[str, Priority], array[float]] = {}
        self._queues: dict[str, array[float]] = {}
        self._served: frozenset[str] = frozenset()
        self._gaps: dict[str, list[tuple[float, float]]] = {}
        self._open: dict[str, float] = {}
        self._loads: dict[str, float] = {}

    def fleet(self, served: frozenset[str]) -> None:
        """These models have lanes now."""
        now_s = self._now()
        for model in served - self._served:
            gaps = self._gaps.setdefault(model, [])
            gaps.append((self._open.pop(model, self._began_s), now_s))
            del gaps[:-KEPT_GAPS]
        for model in self._served - served:
            self._open[model] = now_s
        self._served = served

    def loaded(self, seconds: Mapping[str, float]) -> None:
        """A worker came that had taken so long to load its models."""
        self._loads.update(seconds)

    def started(self, record: Record) -> None:
        """A request starts on a lane."""
        request, now_s = record.request, self._now()
        _note(self._classes, (request.model, request.priority), now_s)
        _note(self._queues, record.message.subject, now_s)

    def facts(self, record: Record, since_s: float) -> Facts:
        """What is told of a wait from `since_s` until now."""
        asked, now_s = record.request.model, self._now()
        model = record.model or asked  # who has lanes is told by version, who waits by what was asked for
        ahead = [_after(self._classes.get((asked, priority)), since_s) for priority in Priority]
        found: dict[str, bool | int | float | str | list[int]] = {
            names.WAIT_LANES: self._load(model).lanes,
            names.WAIT_AHEAD: ahead,
            names.WAIT_AHEAD_QUEUE: _after(self._queues.get(record.message.subject), since_s),
        }
        without_s = self._without_s(model, since_s, now_s)
        if without_s > _SHORT_S:
            found[names.WAIT_NO_LANES_S] = round(without_s, 3)
            if model in self._served and self._loads.get(model):
                found[names.WAIT_LOAD_S] = round(self._loads[model], 3)
        if since_s < self._began_s:
            found[names.WAIT_BEFORE_ROUTER_S] = round(self._began_s - since_s, 3)
        return found

    def _without_s(self, model: str, since_s: float, now_s: float) -> float:
        gaps = list(self._gaps.get(model, ()))
        if model not in self._served:
            gaps.append((self._open.get(model, self._began_s), now_s))
        return sum(max(0.0, min(end_s, now_s) - max(start_s, since_s)) for start_s, end_s in gaps)


_K = TypeVar("_K", str, tuple[str, Priority])


def _note(lines: dict[_K, array[float]], line: _K, now_s: float) -> None:
    times = lines.get(line)
    if times is None:
        if len(lines) >= KEPT_LINES:
            del lines[next(iter(lines))]
        times = lines[line] = array("d")
    times.append(now_s)
    if len(times) > KEPT_STARTS:
        del times[: KEPT_STARTS // 2]


def _after(times: array[float] | None, since_s: float) -> int:
    return 0 if times is None else len(times) - bisect_right(times, since_s)
