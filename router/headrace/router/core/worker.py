"""A worker with its lanes, and the batches on them. Written by Fleet alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, log

from headrace.router.core.cost import CostModel
from headrace.router.core.held import Held, Running
from headrace.router.core.kept import AfterStatic
from headrace.router.core.lockstep import Extent, duration_s

KEPT = 1_024
"""Static prompts that a worker is known to have computed: many times as many as are ever allow-listed."""
TYPICAL: Extent = (128, 64.0)
"""A request by which workers are compared."""
ABOUT = 0.2
"""Times within some tenth of one another are about equal."""
SHORTEST_S = 1e-6
"""Shorter times are not told apart."""
OVERDUE_SHARE = 0.25
"""Of the time that it has run, for how much longer a batch that has passed its expected time is expected to run: one of
which too little was expected is not for ever about to end.
"""


def about(seconds: float) -> int:
    """Equal for times that are about equal; lower is shorter."""
    return round(log(max(seconds, SHORTEST_S)) / ABOUT)


@dataclass(slots=True, kw_only=True, eq=False)
class Batch:
    """What a lane decodes. Written by Fleet alone."""

    number: int
    worker: str
    lane: int
    model: str
    level: int
    """The effective class of its members as they were assigned: a lane has one class."""
    members: tuple[Held, ...]
    assignments: tuple[int, ...]
    extents: tuple[Extent, ...]
    """Of its members as they were assigned, with the output that was expected."""
    expected_s: float
    started_s: float
    apart: bool = False
    """Whether its worker takes no other of which this is so beside it."""
    slack_s: float = inf
    """How long it may be paused in all without its members missing their objective per token."""
    paused_at_s: float | None = None
    """Since when it has been paused; None = it runs."""
    paused_s: float = 0.0
    """How long it was paused before that."""
    left: bool = False
    """Whether its members go on in another batch: it ends at its next step, and its slot is another's."""
    wasted_s: float = 0.0
    """What it has cost so far that those who wait do not run in it; see `regrouping`."""
    wasted_at_s: float = 0.0
    """Up to when that is counted."""
    static_tokens: int = 0
    """Of the static prompt with which all its prompts begin."""
    kept: bool = False
    """Whether its worker had computed that before."""
    disturbed: bool = False
    """Whether it had to wait for its slot: how long it took is no measurement."""

    @property
    def paused(self) -> bool:
        return self.paused_at_s is not None

    @property
    def runs(self) -> bool:
        """Whether it has a slot."""
        return self.paused_at_s is None and not self.left

    @property
    def stepping(self) -> bool:
        """Whether its prefill is over: then it can be held at its next step. One of texts can, between two pieces."""
        return bool(self.members[0].texts) or any(
            held.context > context for held, (context, _) in zip(self.members, self.extents, strict=True)
        )

    @property
    def stuck(self) -> bool:
        """Whether all its members have ended and its prefill goes on: it keeps its slot until that is over, paused or
        not.
        """
        return not self.stepping and not any(
            isinstance(held.state, Running) and held.state.assignment == number
            for held, number in zip(self.members, self.assignments, strict=True)
        )

    def ran_s(self, now: float) -> float:
        """How long it has run."""
        return (now if self.paused_at_s is None else self.paused_at_s) - self.started_s - self.paused_s

    def residual_s(self, now: float) -> float:
        """How much longer it is expected to run."""
        ran_s = self.ran_s(now)
        return max(self.expected_s - ran_s, OVERDUE_SHARE * max(self.expected_s, ran_s))

    def made(self) -> list[Extent]:
        """Its members with the output, or the texts, that they really made on this lane."""
        return [
            (context, float(held.texts * held.embedded if held.texts else max(0, held.context - context)))
            for (context, _), held in zip(self.extents, self.members, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Leftover:
    """What a lane still computes for a router that is gone: it takes a slot, and nothing ends it but itself. For how
    much longer nobody knows.
    """


LEFTOVER = Leftover()


@dataclass(slots=True, kw_only=True, eq=False)
class Worker:
    """A worker that joined. Written by Fleet alone."""

    name: str
    max_batch: int
    slots: int
    costs: dict[str, CostModel]
    """Of each model that it serves."""
    lanes: list[Batch | Leftover | None]
    """None = free."""
    number: int
    """Counts those that joined."""
    pace: dict[str, float] = field(default_factory=dict)
    """Seconds for a typical request of each model: by it workers are compared."""
    draining: bool = False
    running: int = 0
    """Batches that are not paused, and what is left over."""
    coming: Mapping[str, float | None] = field(default_factory=dict)
    """Models that it is about to serve, each with when it is expected to, as far as that is known."""
    kept: set[tuple[str, str]] = field(default_factory=set)
    """Model and static prompt, of those that its engine has computed. Bounded by KEPT."""

    @property
    def open_slots(self) -> int:
        """Batches that it could begin now."""
        return 0 if self.draining else max(0, min(self.slots - self.running, self.lanes.count(None)))

    @property
    def has_apart(self) -> bool:
        return any(batch.apart for batch in self.batches())

    @property
    def leftovers(self) -> int:
        """Slots of which nobody knows when they are free."""
        return min(self.slots, self.lanes.count(LEFTOVER))

    @property
    def held_up(self) -> bool:
        """Whether that is all of them: nothing can be said of when it begins a batch."""
        return self.leftovers == self.slots

    @property
    def can_make_room(self) -> bool:
        """Whether a batch that runs on it can be held at its next step, as its prefill is over."""
        return any(batch.runs and batch.stepping for batch in self.batches())

    def prefill_left_s(self, batch: Batch, now: float) -> float:
        """How much longer the prefill of a batch is expected to go on: it cannot be held before that is over."""
        if batch.stepping:
            return 0.0
        ran_s, expected_s = batch.ran_s(now), 0.0
        if (costs := self.costs.get(batch.model)) is not None:  # else it is to be unloaded
            shortest = min(context for context, _ in batch.extents)
            expected_s = costs.prefill(len(batch.extents), shortest - 1)
        return max(expected_s - ran_s, OVERDUE_SHARE * ran_s)

    def has_kept(self, held: Held) -> bool:
        """Whether its engine has computed the static prompt of a request."""
        return (held.model, held.static) in self.kept

    def forget_kept(self, model: str) -> None:
        """What an engine kept goes with it."""
        self.kept = {pair for pair in self.kept if pair[0] != model}

    def costs_for(self, held: Held) -> CostModel | AfterStatic:
        """What a request costs here, and those that have its static prompt, too."""
        costs = self.costs[held.model]
        return AfterStatic(costs, held.static_tokens, self.has_kept(held)) if held.static else costs

    def static_s(self, held: Held) -> float:
        """`pace` for a request with a static prompt: seconds for one as long as that with a typical output."""
        return duration_s(self.costs_for(held), ((held.context, TYPICAL[1]),))

    def alone_s(self, model: str, extent: Extent) -> float:
        """How long it takes for one request by itself."""
        return duration_s(self.costs[model], (extent,))

    def batches(self) -> Iterator[Batch]:
        return (batch for batch in self.lanes if isinstance(batch, Batch))

    def to_resume(self) -> Batch | None:
        """The paused batch to go on with first: the most urgent, of these the oldest."""
        paused = [batch for batch in self.batches() if batch.paused and not batch.left]
        return min(paused, key=lambda batch: (batch.level, batch.number), default=None)


def slack_s(extents: Sequence[Extent], expected_s: float, token_s: float) -> float:
    """How much longer a group may take than expected, if each member is to make its output at `token_s` a token."""
    if token_s == inf:
        return inf
    shortest = min(output for _, output in extents)
    return token_s * shortest - expected_s
