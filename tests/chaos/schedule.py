"""Which process is hit when, and how: a function of the seed alone."""

from __future__ import annotations

import enum
import random
from collections.abc import Sequence
from dataclasses import dataclass

ROUTERS = ("router-1", "router-2")
GATEWAYS = ("gateway-1", "gateway-2")
WORKERS = ("worker-1", "worker-2", "worker-3")
NATS = "nats"
VICTIMS = (*ROUTERS, *GATEWAYS, *WORKERS, NATS)

FIRST_S = 3.0
"""Before it the mesh runs undisturbed."""
RECOVERY_S = 4.0
"""How long a process that was hit is left alone after it is back: as long as a start takes, and some work."""
LAST_S = 5.0
"""Of the load, without a new blow: so that each has somebody to hurt."""

_KINDS = {"worker": 0.4, "router": 0.25, "gateway": 0.2, "nats": 0.15}


class Act(enum.Enum):
    """What is done to a process. After each it is there again."""

    KILL = "kill"
    """SIGKILL, and a start later."""
    HANG = "hang"
    """SIGSTOP, and SIGCONT later."""
    DRAIN = "drain"
    """SIGTERM, its end, and a start."""


_ACTS = {Act.KILL: 0.6, Act.HANG: 0.2, Act.DRAIN: 0.2}
_DOWN_S = {Act.KILL: (0.0, 2.5), Act.HANG: (0.3, 6.0), Act.DRAIN: (0.0, 1.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """One act. Times are seconds since the load began."""

    number: int
    at_s: float
    victim: str
    act: Act
    down_s: float
    """Until it is started or continued; a drain takes its own time before."""

    @property
    def kind(self) -> str:
        return f"{kind_of(self.victim)} {self.act.value}"

    def __str__(self) -> str:
        return f"#{self.number} {self.act.value} {self.victim}, back after {self.down_s:.2f} s"


def kind_of(victim: str) -> str:
    """`router` of `router-1`."""
    return victim.partition("-")[0]


def draw_schedule(
    rng: random.Random, *, duration_s: float, every_s: float, victims: Sequence[str] = VICTIMS
) -> tuple[Blow, ...]:
    """Blows from `FIRST_S` to `LAST_S` before the end, `every_s` apart in the mean; several may be down at once."""
    blows: list[Blow] = []
    free_s = dict.fromkeys(victims, 0.0)
    at_s = FIRST_S
    while at_s < duration_s - LAST_S:
        if there := [victim for victim in victims if free_s[victim] <= at_s]:
            victim = _draw_victim(rng, there)
            act = rng.choices(list(_ACTS), list(_ACTS.values()))[0]
            down_s = rng.uniform(*_DOWN_S[act])
            blows.append(Blow(number=len(blows) + 1, at_s=at_s, victim=victim, act=act, down_s=down_s))
            free_s[victim] = at_s + down_s + RECOVERY_S
        at_s += rng.uniform(0.5, 1.5) * every_s
    return tuple(blows)


def _draw_victim(rng: random.Random, there: Sequence[str]) -> str:
    kinds = sorted({kind_of(victim) for victim in there})
    kind = rng.choices(kinds, [_KINDS[kind] for kind in kinds])[0]
    return rng.choice([victim for victim in there if kind_of(victim) == kind])
