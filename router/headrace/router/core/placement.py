"""Which models go on which nodes, where memory is short: a function of what is wanted and what there is.

    value(m)   = arrival rate · work saved per request          seconds of work per second
    density(m) = value / memory                                 per GB: who goes first

1. What a node has stays there, as long as it is wanted and the node may have it: moving costs a load.
2. Each model that has no replica gets one, the densest first; on a node that has room, else in the place of replicas
   that are not the only ones, else in that of models that are less dense: but only where the backlog that waits for
   it exceeds theirs by at least `swap` times its load time, and they have been there for `residency_s`.
3. What room is left goes to further replicas, as far as they are wanted, by density / (replicas + 1).

The same wants and nodes give the same placement, in whatever order they come, and a placement is kept by the next run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A model that is wanted."""

    reference: str
    memory_bytes: int
    replicas: int = 1
    """0 = on each node that can have it."""
    labels: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    """"" = any."""
    value: float = 0.0
    backlog_s: float = 0.0
    """Work that waits for it."""
    load_s: float = 0.0
    asked_s: float = 0.0

    @property
    def density(self) -> float:
        return self.value * GB / max(1, self.memory_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node, and what it was given."""

    name: str
    memory_bytes: int
    """For the models that it is given."""
    labels: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    given: Mapping[str, float] = field(default_factory=dict)
    """By reference, since when."""
    failed: frozenset[str] = frozenset()
    """What it was given and could not load."""
    loaded: frozenset[str] = frozenset()
    """What it has in its memory, and so has room for, whatever it was thought to take."""
    away: bool = False
    """It is expected back: it keeps what it was given, and is given nothing new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRules:
    """`swap`: see above. `residency_s`: how long a model stays at least before another takes its place."""

    swap: float = 2.0
    residency_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What each node is to have, and why a model is nowhere."""

    nodes: Mapping[str, tuple[str, ...]]
    waiting: Mapping[str, str]


def place(wants: Sequence[Want], nodes: Sequence[Node], rules: PlacementRules, now: float) -> Placement:
    """The placement that follows from what is there now."""
    plan = _Plan(wants, nodes, rules, now)
    plan.keep()
    # A further replica may make room for a first one. It ends: what was placed now is not taken away again.
    changed = True
    while changed:
        placed = [plan.place_first(want) for want in plan.by_density() if not plan.replicas(want.reference)]
        changed = plan.place_further() or any(placed)
    return plan.result()


def may_have(node: Node, want: Want) -> bool:
    """Whether a node is one of those that a model is wanted on, room or not."""
    return want.memory_bytes <= node.memory_bytes and _is_meant(node, want)


def _is_meant(node: Node, want: Want) -> bool:
    return want.device in ("", node.device) and all(
        node.labels.get(key) == value for key, value in want.labels.items()
    )


class _Plan:
    """What each node has so far, and how much room."""

    def __init__(
        self, wants: Sequence[Want], nodes: Sequence[Node], rules: PlacementRules, now: float
    ) -> None:
        self._wants = {want.reference: want for want in wants}
        self._nodes = {node.name: node for node in sorted(nodes, key=lambda node: node.name)}
        self._rules = rules
        self._now = now
        self._has: dict[str, set[str]] = {name: set() for name in self._nodes}
        self._free = {name: node.memory_bytes for name, node in self._nodes.items()}
        self._new: set[tuple[str, str]] = set()
        """What was placed beyond what is kept: nobody takes its place in this run."""

    def by_density(self) -> list[Want]:
        return sorted(self._wants.values(), key=lambda w: (-w.density, w.asked_s, w.reference))

    def replicas(self, reference: str) -> list[str]:
        """The nodes that have it."""
        return [name for name, has in self._has.items() if reference in has]

    def keep(self) -> None:
        """Step 1. Of what a node has too much of, the densest stay; what could not be loaded somewhere is tried
        elsewhere where there is room.
        """
        for want in self.by_density():
            holders = [
                n for n in self._nodes.values() if want.reference in n.given and self._may_keep(n, want)
            ]
            holders.sort(key=lambda n: (n.away, want.reference in n.failed, n.given[want.reference], n.name))
            for node in holders[: want.replicas or None]:
                self._give(node.name, want)
        for want in self.by_density():
            for name in self.replicas(want.reference):
                if want.reference in self._nodes[name].failed and (other := self._roomiest(want)) is not None:
                    if want.reference in other.failed:
                        continue
                    self._take(name, want)
                    self._give(other.name, want)
        self._new.clear()

    def place_first(self, want: Want) -> bool:
        """Step 2; whether it has a place now."""
        node = self._roomiest(want)
        if node is not None:
            self._give(node.name, want)
            return True
        found: list[tuple[float, str, list[Want]]] = []
        for node in self._nodes.values():
            if not node.away and may_have(node, want) and (victims := self._victims(node, want)) is not None:
                found.append((sum(victim.value for victim in victims), node.name, victims))
        if found:
            _, name, victims = min(found, key=lambda item: item[:2])
            for victim in victims:
                self._take(name, victim)
            self._give(name, want)
        return bool(found)

    def _victims(self, node: Node, want: Want) -> list[Want] | None:
        """Who makes room on a node, first those that are elsewhere too; None where that is not enough, or not worth
        it.
        """
        short = want.memory_bytes - self._free[node.name]
        settled = [
            self._wants[reference]
            for reference in self._has[node.name]
            if self._now - node.given.get(reference, self._now) >= self._rules.residency_s
            and (node.name, reference) not in self._new
        ]
        spare = [w for w in settled if len(self.replicas(w.reference)) > 1]
        only = [w for w in settled if w not in spare and w.density < want.density]
        victims: list[Want] = []
        for group in (spare, only):
            for victim in sorted(group, key=lambda w: (w.density, w.reference)):
                if short > 0:
                    victims.append(victim)
                    short -= victim.memory_bytes
        if short > 0:
            return None
        lost_s = sum(victim.backlog_s for victim in victims if victim in only)
        swaps = any(victim in only for victim in victims)
        worth = want.backlog_s - lost_s >= self._rules.swap * want.load_s and want.backlog_s > lost_s
        return victims if worth or not swaps else None

    def place_further(self) -> bool:
        """Step 3; whether there was any."""
        placed = False
        while True:
            best: tuple[float, float, str] | None = None
            for want in self._wants.values():
                there = len(self.replicas(want.reference))
                if (
                    there
                    and (not want.replicas or there < want.replicas)
                    and self._roomiest(want) is not None
                ):
                    key = (-want.density / (there + 1), want.asked_s, want.reference)
                    best = key if best is None else min(best, key)
            if best is None:
                return placed
            placed = True
            want = self._wants[best[2]]
            node = self._roomiest(want)
            assert node is not None, "it was found just now"
            self._give(node.name, want)

    def result(self) -> Placement:
        waiting = {w.reference: self._why(w) for w in self._wants.values() if not self.replicas(w.reference)}
        return Placement(nodes={name: tuple(sorted(has)) for name, has in self._has.items()}, waiting=waiting)

    def _why(self, want: Want) -> str:
        if not self._nodes:
            return "there is no node"
        asked = [f"{key}={value}" for key, value in sorted(want.labels.items())]
        asked += [f"device {want.device}"] if want.device else []
        fit = [n for n in self._nodes.values() if not n.away and _is_meant(n, want)]
        if not fit:
            return f"no node has {', '.join(asked) or 'come yet'}"
        most = max(n.memory_bytes for n in fit)
        if most < want.memory_bytes:
            return (
                f"it takes about {want.memory_bytes / 1e6:.0f} MB, and the largest node that may have it has"
                f" {most / 1e6:.0f} MB"
            )
        return f"no node has {want.memory_bytes / 1e6:.0f} MB free: it waits for room"

    def _may_keep(self, node: Node, want: Want) -> bool:
        if want.reference in node.loaded and _is_meant(node, want):
            return True
        return node.away or self._has_room(node, want)

    def _has_room(self, node: Node, want: Want) -> bool:
        return (
            not node.away
            and may_have(node, want)
            and want.reference not in self._has[node.name]
            and want.memory_bytes <= self._free[node.name]
        )

    def _roomiest(self, want: Want) -> Node | None:
        """The node with room for it that has not failed with it, has it already, and has the most room."""
        those = [node for node in self._nodes.values() if self._has_room(node, want)]
        return min(
            those,
            key=lambda n: (
                want.reference in n.failed,
                want.reference not in n.given,
                want.reference not in n.loaded,
                -self._free[n.name],
                n.name,
            ),
            default=None,
        )

    def _give(self, name: str, want: Want) -> None:
        self._has[name].add(want.reference)
        self._new.add((name, want.reference))
        self._free[name] -= want.memory_bytes

    def _take(self, name: str, want: Want) -> None:
        self._has[name].discard(want.reference)
        self._free[name] += want.memory_bytes
