"""How long a waiting request takes a lane, learnt from the batches that ended.

    lane seconds per request  ←  (1 - α) · old + α · (duration of the batch / its size),   α = 0.2

An exponentially weighted mean forgets an old load within some twenty batches.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ALPHA = 0.2


@dataclass(slots=True)
class Estimate:
    """Lane seconds per request, by model. Written by the Scheduler alone."""

    lane_s: dict[str, float] = field(default_factory=dict)

    def observe(self, model: str, duration_s: float, size: int) -> None:
        seen = duration_s / size
        old = self.lane_s.get(model)
        self.lane_s[model] = seen if old is None else (1 - ALPHA) * old + ALPHA * seen

    def work_s(self, model: str) -> float:
        """Seconds of a lane for a request, also where no lane is there any more; 0 = nothing known yet."""
        return self.lane_s.get(model, 0.0)

    def seconds_per_request(self, model: str, lanes: int) -> float:
        """Until `lanes` lanes take one more waiting request, when all are busy; 0 = nothing known yet."""
        return self.lane_s.get(model, 0.0) / lanes if lanes else 0.0
