"""What processes use of the machine: CPU time between two points, and the most memory seen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil

Processes = Callable[[], Mapping[str, int]]
"""The processes of a mesh, by name: their process ids now. Empty for a mesh on other machines."""

_SAMPLE_S = 0.2
"""Between two looks at the memory: cheap, and an engine's memory changes over seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Of one process, over one measured phase."""

    cpu_s: float
    cpu_ms_per_1000_tokens: float
    peak_memory_mb: float


class UsageMeter:
    """Measures from `start` to `stop`. Writers: `_peaks` the task in between, all else those two."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._began: dict[str, tuple[int, float]] = {}
        self._cpu_s: dict[str, float] = {}
        self._peaks: dict[str, int] = {}
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """From here on it counts."""
        self._began = {name: (pid, _cpu_s(pid)) for name, pid in self._processes().items()}
        self._peaks = {}
        self._look()
        self._watching = asyncio.create_task(self._watch(), name="usage")

    def stop(self) -> None:
        """Until here it counts. A process that was restarted in between counts from its new start."""
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        self._look()
        for name, pid in self._processes().items():
            before_pid, before_s = self._began.get(name, (pid, 0.0))
            self._cpu_s[name] = max(0.0, _cpu_s(pid) - (before_s if before_pid == pid else 0.0))

    def usage(self, output_tokens: int) -> dict[str, Usage]:
        """By process, where so many tokens were made in between."""
        return {
            name: usage_of(cpu_s, self._peaks.get(name, 0), output_tokens)
            for name, cpu_s in self._cpu_s.items()
        }

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_SAMPLE_S)
            self._look()

    def _look(self) -> None:
        for name, pid in self._processes().items():
            with contextlib.suppress(psutil.Error):
                self._peaks[name] = max(self._peaks.get(name, 0), psutil.Process(pid).memory_info().rss)


def usage_of(cpu_s: float, peak_bytes: int, output_tokens: int) -> Usage:
    """The usage of one process."""
    per_1000 = cpu_s * 1e6 / output_tokens if output_tokens else 0.0
    return Usage(cpu_s=cpu_s, cpu_ms_per_1000_tokens=per_1000, peak_memory_mb=peak_bytes / 1e6)


def _cpu_s(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)
