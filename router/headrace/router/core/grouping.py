"""Who decodes together: the group that a free lane takes when `head` is the request that goes first.

The engine runs a batch in lockstep and prefills in parallel only as far as the shortest prompt reaches, so what a
further member costs depends on how much longer it is than the others; see `lockstep`. The nearest in context are tried
first, and one is taken if

    it shares model, sampling and effective class with the head, and its tenant is not ahead of its share
    the longest context exceeds the shortest by at most Dcap
    T(G) + T(r) ≥ gain · T(G + r): together they take less of the lane than one after the other
    its prefill takes no longer than the setting allows, as it cannot be broken off for anything more urgent; but any
    time where its worker runs another batch that can be held meanwhile
    texts to embed go together in any case up to a time that the setting gives: the more of them are sorted by length,
    the less is padded, and their measured cost, that of equal ones, does not know it
    everybody's output comes at the objective per token of the class, and nobody's first token comes too late by it

up to the share of this lane:  cap = ceil(compatible waiting / free slots), at most the worker's largest batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

from headrace.contract.values import Task
from headrace.router.core.held import Held
from headrace.router.core.lockstep import Costs, Extent, duration_s, moments_s

LOSSES_BEFORE_ALONE = 2
"""After so many lost attempts a request runs alone: if it is what kills workers, it takes nobody along."""

LOSSES_BEFORE_APART = 3
"""After so many it also waits for a worker that runs no other of its like. A worker's end takes along whatever it ran:
without this, those that fled from one worker to the next together with the one that kills workers would be given up
together with it.
"""


@dataclass(slots=True, kw_only=True)
class GroupRules:
    """What bounds a group; see the module. Nobody writes it; a frozen one takes several times as long to make."""

    cap: int
    max_skew: int
    gain: float
    misses: int
    prefill_s: float
    company_s: float
    token_s: float
    extent: Callable[[Held], Extent]
    first_token_within_s: Callable[[Held], float]
    """From now, by its objective; inf where it has none."""
    hopeless: Callable[[Held], bool]
    """Whether its own objective cannot be met any more: it is refused when it is its turn."""
    room: Callable[[str], float]
    """What a tenant may still be charged and be eligible."""
    cost: Callable[[Held], float]
    """What its tenant is charged for a request."""


@dataclass(slots=True, kw_only=True)
class Group:
    """A group, and how long it is expected to take on the lane."""

    members: tuple[Held, ...]
    extents: tuple[Extent, ...]
    expected_s: float
    apart_s: float
    """How long its members would take one after the other."""


def form_group(head: Held, companions: Iterable[Held], costs: Costs, rules: GroupRules) -> Group:
    """`head` and those that go with it; `companions` come nearest in context first."""
    members, extents = [head], [rules.extent(head)]
    expected_s = apart_s = duration_s(costs, extents)
    shortest = longest = head.context
    spent: dict[str, float] = {head.tenant: rules.cost(head)}
    misses = 0
    for held in companions if rules.cap > 1 else ():
        low, high = min(shortest, held.context), max(longest, held.context)
        if high - low > rules.max_skew or misses >= rules.misses:
            break  # the others are further away still
        spends = spent.get(held.tenant, 0.0)
        if spends > rules.room(held.tenant) or rules.hopeless(held):
            continue
        extent = rules.extent(held)
        grown, alone_s = [*extents, extent], duration_s(costs, (extent,))
        together_s = duration_s(costs, grown)
        pays = expected_s + alone_s >= rules.gain * together_s
        if head.texts:  # they are broken off between two pieces
            too_long = not pays and together_s > rules.company_s
        else:
            too_long = not pays or costs.prefill(len(grown), low - 1) > rules.prefill_s
        if too_long or not _in_time([*members, held], grown, costs, rules):
            misses += 1
            continue
        misses = 0
        members.append(held)
        extents, expected_s, shortest, longest = grown, together_s, low, high
        apart_s += alone_s
        spent[held.tenant] = spends + rules.cost(held)
        if len(members) >= rules.cap:
            break
    return Group(members=tuple(members), extents=tuple(extents), expected_s=expected_s, apart_s=apart_s)


def _in_time(members: list[Held], extents: list[Extent], costs: Costs, rules: GroupRules) -> bool:
    """Whether the objectives of all are met that could be met without the last of them."""
    bounds = [rules.first_token_within_s(held) for held in members]
    if rules.token_s == inf and min(bounds) == inf:
        return True
    moments = moments_s(costs, extents)
    for (first, last), (_, output) in zip(moments, extents, strict=True):
        if last - first > rules.token_s * (output - 1):
            return False
    firsts = [first for first, _ in moments]
    if all(first <= bound for first, bound in zip(firsts, bounds, strict=True)):
        return True
    before = [first for first, _ in moments_s(costs, extents[:-1])]
    return firsts[-1] <= bounds[-1] and all(
        now <= bound or was > bound for now, was, bound in zip(firsts, before, bounds, strict=False)
    )


def goes_alone(held: Held) -> bool:
    """Whether it shares a batch with nobody."""
    # A prompt of one token makes the engine return the other entries' prompts as their output.
    return (held.context <= 1 and held.task is Task.GENERATE) or held.losses >= LOSSES_BEFORE_ALONE


def goes_apart(held: Held) -> bool:
    """Whether it shares a worker with no other of which this is so."""
    return held.losses >= LOSSES_BEFORE_APART
