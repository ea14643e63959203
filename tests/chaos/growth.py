"""How memory and open files of processes change while the same is done all the time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil

from tests.chaos.schedule import NATS

MORE_FILES = 4
"""Open files that come and go by themselves."""


SLACK_MIB = {NATS: 32.0}
"""Go lets a heap double before it tidies up, and caches blocks of streams: a small server looks as if it leaked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Of one process, over some time."""

    name: str
    first_mib: float
    """By the line through all samples, as is `last_mib`: single ones say little where memory is collected."""
    last_mib: float
    slope_mib_min: float
    first_files: int
    last_files: int

    @property
    def share(self) -> float:
        """Of the memory at first."""
        return (self.last_mib - self.first_mib) / self.first_mib

    def is_flat(self, share: float) -> bool:
        """Whether it grew by no more than `share`, or what its collector lets lie."""
        return self.share <= share or self.last_mib - self.first_mib <= SLACK_MIB.get(self.name, 0.0)

    @property
    def more_files(self) -> bool:
        return self.last_files > self.first_files + MORE_FILES


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    mib: float
    files: int


@dataclass(slots=True)
class Growths:
    """Of the processes with these pids, by name. Writer: `look`."""

    pids: Mapping[str, int]
    _samples: dict[str, list[_Sample]] = field(default_factory=dict)

    def look(self) -> None:
        """Takes one sample of each."""
        now_s = time.monotonic()
        for name, pid in self.pids.items():
            process = psutil.Process(pid)
            sample = _Sample(now_s, process.memory_info().rss / 2**20, process.num_fds())
            self._samples.setdefault(name, []).append(sample)

    def after(self, start_s: float) -> list[Growth]:
        """What the samples since `start_s` show."""
        return [
            _growth(name, [sample for sample in samples if sample.at_s >= start_s])
            for name, samples in self._samples.items()
        ]


def _growth(name: str, samples: list[_Sample]) -> Growth:
    """By least squares."""
    count = len(samples)
    assert count > 1, "a line needs two points"
    middle_s = sum(sample.at_s for sample in samples) / count
    mean = sum(sample.mib for sample in samples) / count
    spread = sum((sample.at_s - middle_s) ** 2 for sample in samples)
    slope = sum((sample.at_s - middle_s) * (sample.mib - mean) for sample in samples) / spread
    return Growth(
        name=name,
        first_mib=mean + slope * (samples[0].at_s - middle_s),
        last_mib=mean + slope * (samples[-1].at_s - middle_s),
        slope_mib_min=60 * slope,
        first_files=samples[0].files,
        last_files=samples[-1].files,
    )
