"""The policy's constants: each is a setting of the router."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from headrace.contract.values import Priority

UNBOUNDED: tuple[float, ...] = (inf,) * len(Priority)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSettings:
    """See the module that uses each. Seconds, tokens; tuples are by Priority."""

    max_held: int = 10_000
    """Requests held at once; when reached, nothing more is pulled and the rest waits in the broker."""
    lookahead: int = 128
    """Requests held per queue beyond what the lanes can take at once: what grouping can choose from."""
    max_attempts: int = 5
    """Lost or failed attempts before a request is given up as a dead letter."""
    remembered_cancels: int = 10_000
    """Cancellations kept for requests that are still in the broker; when full, the oldest is forgotten (its request
    is then computed, and finds its outcome already there)."""

    ageing_s: float = 600.0
    """A: a request that has waited so long counts as one class more urgent; inf = never. See `order`."""
    prompt_weight: float = 1.0
    """w_in: what a tenant is charged for a token of a prompt. See `fairness`."""
    output_weight: float = 2.0
    """w_out: what a tenant is charged for a token of output."""
    fairness_slack: float = 5.0
    """U, in the largest requests seen: how far a tenant may be ahead of the one that had least. inf = no fairness."""
    tenant_weights: Mapping[str, float] = field(default_factory=dict)
    """The share of a tenant among those that wait; 1 where it is not named."""

    max_skew: int = 64
    """Dcap: how many tokens longer than the shortest a prompt of the same batch may be. See `grouping`."""
    max_prefill_s: float = 0.5
    """How long the prefill of a group may take, where that of its first alone does not take longer and the worker runs
    nothing else that could be held for urgent work meanwhile.
    """
    group_gain: float = 1.02
    """By how much a further member has to pay for itself."""
    company_s: float = 1.0
    """How long a group of texts may take whose members do not pay for themselves. See `grouping`."""
    group_misses: int = 2
    """Candidates in a row that do not pay before a group is taken to be complete."""
    merge_gain: float = 1.3
    """By how much merging a running batch with those that wait has to pay for itself; inf = never. See `regrouping`."""
    moves: int = 2
    """K: how often a request goes on in another batch."""
    slower: float = 1.1
    """A worker that takes so many times as long as the fastest is slow: it takes only what it finishes no later than
    a faster one would. See `placing`."""
    slow_lookahead: int = 64
    """Requests that a slow lane looks at before it stays free."""

    patience: float = 0.7
    """The part of the time to its first token for which a request with an objective waits for a slot to become free
    before something less urgent is paused for it. See `assigning`."""
    first_token_s: tuple[float, ...] = UNBOUNDED
    """Objective for the time from acceptance to the first token. One that cannot be met is refused. See `overload`."""
    token_s: tuple[float, ...] = UNBOUNDED
    """Objective for the time per output token after the first: a batch grows no larger than that allows."""
