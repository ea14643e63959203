"""What a run is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.asked import Odds, Prompts
from tests.chaos.schedule import VICTIMS, Act, Plan, acts_of, kind_of

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
HARMLESS = Odds(poison=0.0, oversize=0.0, rival=0.05, sampled=0.1)
"""For a model that takes no commands."""
MOST_OFTEN_S = 0.8
"""Between two blows in the mean: more often, and nothing ever recovers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a run is made of. It ends when all of duration, kills and requests are reached."""

    seed: int
    duration_s: float = 60.0
    kills: int = 0
    requests: int = 0
    every_s: float | None = None
    """The mean time between two blows; None: such that the kills fit the duration, or 4 s."""
    hit: tuple[str, ...] = ()
    """Kinds of processes; none: all."""
    acts: tuple[Act, ...] = tuple(Act)
    alone: bool = False
    """One blow at a time, with time to recover: shows what one loss costs."""
    rolling: bool = False
    """Drains everything in turn instead of the blows."""
    clients: int = 40
    rate: float = 20.0
    """Most requests a second."""
    think_s: float = 0.5
    odds: Odds = field(default_factory=Odds)
    model: str = "fake"
    models: Path | None = None
    """The store that has the real model."""
    step_s: float = 0.03
    slowest: int = 0
    """Of how many of the streams that stood still longest the timelines are told."""

    @property
    def plan(self) -> Plan:
        acts = acts_of(self.acts)
        victims = tuple(v for v in VICTIMS if not self.hit or kind_of(v) in self.hit)
        if self.every_s is not None:
            every_s = self.every_s
        elif self.kills:
            share = Plan(acts=acts).kill_share
            every_s = max(MOST_OFTEN_S, 0.9 * self.duration_s * share / self.kills)
        else:
            every_s = 4.0
        return Plan(every_s=every_s, victims=victims, acts=acts, alone=self.alone)

    @property
    def command(self) -> str:
        """Replays the run's schedule and requests."""
        words = [".venv/bin/python -m tests.chaos", f"--seed {self.seed}", f"--duration {self.duration_s:g}"]
        if self.kills:
            words.append(f"--kills {self.kills}")
        if self.requests:
            words.append(f"--requests {self.requests}")
        if self.every_s is not None:
            words.append(f"--every {self.every_s:g}")
        if self.hit:
            words.append(f"--hit {','.join(self.hit)}")
        if self.acts != tuple(Act):
            words.append(f"--acts {','.join(act.value for act in self.acts)}")
        words += ["--alone"] * self.alone + ["--rolling"] * self.rolling
        words.append(f"--clients {self.clients} --rate {self.rate:g} --model {self.model}")
        return " ".join(words)

    @property
    def fake(self) -> bool:
        return self.model == "fake"

    @property
    def prompts(self) -> Prompts:
        return Prompts() if self.fake else REAL_PROMPTS
