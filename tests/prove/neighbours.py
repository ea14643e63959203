"""How much of the machine others take while something is measured: a figure is the mesh's only where that is little."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

import psutil

_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


@dataclass(slots=True)
class Neighbours:
    """Counts from when it is made: the CPU time of all, less that of this process and its children."""

    _since_s: float = field(default_factory=time.perf_counter)
    _all_s: float = field(default_factory=lambda: _machine_s())
    _own_s: float = field(default_factory=lambda: _own_s())

    def share(self) -> float:
        """Of all cores, 0 … 1, since then. Children that have ended meanwhile count as others."""
        taken_s = (_machine_s() - self._all_s) - (_own_s() - self._own_s)
        return max(0.0, taken_s / ((time.perf_counter() - self._since_s) * (os.cpu_count() or 1)))


def _machine_s() -> float:
    times = psutil.cpu_times()
    return float(sum(getattr(times, name, 0.0) for name in _BUSY))


def _own_s() -> float:
    me = psutil.Process()
    total = 0.0
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue  # it has just ended
        total += times.user + times.system
    return total
