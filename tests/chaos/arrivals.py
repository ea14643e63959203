"""When the parts of one stream came."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Arrivals:
    """Times are `time.monotonic`, in their order. Both arrays have the same length."""

    at_s: array[float] = field(default_factory=lambda: array("d"))
    next_index: array[int] = field(default_factory=lambda: array("I"))
    """For each of `at_s`: the index after the chunk that came."""

    def __len__(self) -> int:
        return len(self.at_s)

    def add(self, next_index: int) -> None:
        self.at_s.append(time.monotonic())
        self.next_index.append(next_index)

    def longest_pause_s(self) -> float:
        """Between two arrivals; 0 where there are not two."""
        times = self.at_s
        return max((times[i] - times[i - 1] for i in range(1, len(times))), default=0.0)
