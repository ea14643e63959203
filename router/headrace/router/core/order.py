"""The order of the queue: which waiting request goes first.

    (effective class, whether its tenant is ahead of its share, due, arrival, id)

- effective class = max(0, class - ⌊wait / A⌋): with age a request becomes more urgent, so that nothing starves.
- due = its deadline, or where it has none the time at which it will have aged by one class: one that asks for an
  answer by then goes before it, one that has longer goes after it.
- The id makes the order total, so that equal events give equal decisions.

The tenant's share is the business of `fairness`; the rest is here.

Source: earliest deadline first, Liu and Layland, Journal of the ACM 1973.
"""

from __future__ import annotations

from math import inf

from headrace.router.core.held import Held

Rank = tuple[float, float, str]


def rank(held: Held, ageing_s: float) -> Rank:
    """Among those of one effective class and tenant: lower goes first."""
    deadline_s = inf if held.deadline_s is None else held.deadline_s
    return (min(deadline_s, held.arrived_s + ageing_s), held.arrived_s, held.request_id)


def promoted_s(held: Held, ageing_s: float) -> float:
    """When it counts as one class more urgent than it does now."""
    return held.arrived_s + (held.priority - held.level + 1) * ageing_s
