"""Which process is hit when, and how: a function of the seed alone."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.chaos.network import Pair
from tests.chaos.wire import Cut

ROUTERS = ("router-1", "router-2")
GATEWAYS = ("gateway-1", "gateway-2")
WORKERS = ("worker-1", "worker-2", "worker-3", "worker-4")
NATS = "nats"
VICTIMS = (*ROUTERS, *GATEWAYS, *WORKERS, NATS)

FIRST_S = 3.0
"""Before it the mesh runs undisturbed."""
RECOVERY_S = 4.0
"""How long a process that was hit is left alone after it is back: as long as a start takes, and some work."""
LAST_S = 5.0
"""Of the load, without a new blow: so that each has somebody to hurt."""
ALONE_S = 5.0
"""From the return of one victim to the next blow, where each blow is to be alone: it shows what one loss costs."""

_KINDS = {"worker": 0.4, "router": 0.25, "gateway": 0.2, "nats": 0.15}


class Act(enum.Enum):
    """What is done to a process. After each it is there again."""

    KILL = "kill"
    """SIGKILL, and a start later."""
    HANG = "hang"
    """SIGSTOP, and SIGCONT later."""
    DRAIN = "drain"
    """SIGTERM, or the word of an operator through a gateway; its end, and a start."""
    PART = "part"
    """Connections of it are cut, all or those to one other, and joined again later."""


_ACTS = {Act.KILL: 0.55, Act.HANG: 0.15, Act.DRAIN: 0.15, Act.PART: 0.15}
_DOWN_S = {Act.KILL: (0.0, 2.5), Act.HANG: (0.3, 6.0), Act.DRAIN: (0.0, 1.0), Act.PART: (0.5, 6.0)}
_CUTS = {Cut.BLACKHOLE: 0.4, Cut.ONE_WAY: 0.2, Cut.REFUSE: 0.2, Cut.HALF_OPEN: 0.2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """One act. Times are seconds since the load began."""

    number: int
    at_s: float
    victim: str
    act: Act
    down_s: float
    """Until it is started, continued or joined; a drain takes its own time before."""
    by_service: bool = False
    """Whether it is a gateway that is asked for the drain, where one answers."""
    apart: tuple[Pair, ...] = ()
    """Who cannot reach whom."""
    apart_from: str = ""
    cut: Cut | None = None
    of_near: bool = True
    """Whether it is the dialling end that is not heard, or not told."""

    @property
    def kind(self) -> str:
        kind = kind_of(self.victim)
        return f"{kind} apart from {kind_of(self.apart_from)}" if self.apart else f"{kind} {self.act.value}"

    def __str__(self) -> str:
        what = f"#{self.number} {self.act.value} {self.victim}"
        if self.cut is not None:
            what += f" and {self.apart_from}: {self.cut.value}"
            what += " from it" if self.of_near else " to it"
        what += " through a gateway" * self.by_service
        return f"{what}, back after {self.down_s:.2f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What blows are made of."""

    every_s: float = 4.0
    """The mean time between two."""
    victims: tuple[str, ...] = VICTIMS
    acts: Mapping[Act, float] = field(default_factory=lambda: dict(_ACTS))
    """With their shares."""
    alone: bool = False
    """Whether the next comes only when the last is over, and all have recovered."""

    @property
    def kill_share(self) -> float:
        return self.acts.get(Act.KILL, 0.0) / sum(self.acts.values())


def acts_of(chosen: Sequence[Act]) -> dict[Act, float]:
    """The usual shares of some acts."""
    return {act: _ACTS[act] for act in chosen}


def kind_of(victim: str) -> str:
    """`router` of `router-1`."""
    return victim.partition("-")[0]


def blows_of(rng: random.Random, plan: Plan) -> Iterator[Blow]:
    """Blows from `FIRST_S` on, without end; several may be down at once, unless the plan has each alone."""
    number = 0
    free_s = dict.fromkeys(plan.victims, 0.0)
    at_s = FIRST_S
    while True:
        if there := [victim for victim in plan.victims if free_s[victim] <= at_s]:
            number += 1
            blow = _draw(rng, number, at_s, _draw_victim(rng, there), plan)
            yield blow
            free_s[blow.victim] = at_s + blow.down_s + RECOVERY_S
            if plan.alone:
                at_s += blow.down_s + ALONE_S
        at_s += rng.uniform(0.5, 1.5) * plan.every_s


def _draw(rng: random.Random, number: int, at_s: float, victim: str, plan: Plan) -> Blow:
    acts = dict(plan.acts)
    if victim == NATS and len(acts) > 1:
        acts.pop(Act.PART, None)  # it dials nobody: others are parted from it
    act = rng.choices(list(acts), list(acts.values()))[0]
    blow = Blow(number=number, at_s=at_s, victim=victim, act=act, down_s=rng.uniform(*_DOWN_S[act]))
    if act is Act.DRAIN and victim != NATS:
        return replace(blow, by_service=rng.random() < 0.5)
    return blow if act is not Act.PART else _part(rng, blow)


def _part(rng: random.Random, blow: Blow) -> Blow:
    peers = _peers_of(blow.victim)
    apart_from = rng.choice(sorted(peers))
    return replace(
        blow,
        apart=peers[apart_from],
        apart_from=apart_from,
        cut=rng.choices(list(_CUTS), list(_CUTS.values()))[0],
        of_near=rng.random() < 0.5,
    )


def _peers_of(victim: str) -> dict[str, tuple[Pair, ...]]:
    """From whom it can be parted, and which pairs that are."""
    to_all: tuple[Pair, ...]
    match kind_of(victim):
        case "worker":
            to_all = tuple((victim, router) for router in ROUTERS)
            return {**{router: ((victim, router),) for router in ROUTERS}, "all": to_all}
        case "gateway":
            to_routers = tuple((victim, router) for router in ROUTERS)
            to_nats = ((victim, NATS),)
            one = {router: ((victim, router),) for router in ROUTERS}
            return {**one, "routers": to_routers, NATS: to_nats, "all": to_routers + to_nats}
        case "router":
            dialled = tuple((other, victim) for other in (*WORKERS, *GATEWAYS))
            return {NATS: ((victim, NATS),), "all": ((victim, NATS), *dialled)}
        case _:
            return {"all": tuple((other, victim) for other in (*ROUTERS, *GATEWAYS))}


def _draw_victim(rng: random.Random, there: Sequence[str]) -> str:
    kinds = sorted({kind_of(victim) for victim in there})
    kind = rng.choices(kinds, [_KINDS[kind] for kind in kinds])[0]
    return rng.choice([victim for victim in there if kind_of(victim) == kind])
