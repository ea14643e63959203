"""What a run is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.chaos.asked import Prompts

REAL_PROMPTS = Prompts(
    fixed=(
        "Once upon a time",
        "The capital of France is",
        "The quick brown fox",
        "In 1969, the first",
        "Water boils at",
        "My favourite colour is",
    ),
    tokens=(6, 48),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a run is made of."""

    seed: int
    duration_s: float
    every_s: float
    clients: int = 28
    think_s: float = 0.5
    poison_odds: float = 0.01
    sampled_odds: float = 0.0
    model: str = "fake"
    models: Path | None = None
    """The store that has the real model."""
    step_s: float = 0.03
    slowest: int = 0
    """Of how many of the streams that stood still longest the timelines are told."""

    @property
    def command(self) -> str:
        """Replays the run's schedule and requests."""
        return (
            f".venv/bin/python -m tests.chaos --seed {self.seed} --duration {self.duration_s:g} "
            f"--every {self.every_s:g} --clients {self.clients} --model {self.model}"
            + (f" --sampled {self.sampled_odds:g}" if self.sampled_odds else "")
        )

    @property
    def fake(self) -> bool:
        return self.model == "fake"

    @property
    def prompts(self) -> Prompts:
        return Prompts() if self.fake else REAL_PROMPTS
