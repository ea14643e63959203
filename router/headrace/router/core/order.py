"""The order of the queue: which waiting request goes first.

(class, arrival): the more urgent class first, within it the one that the broker accepted first. The request id makes
the order total, so that equal events give equal decisions.
"""

from __future__ import annotations

from headrace.router.core.held import Held

Rank = tuple[int, float, str]


def rank(held: Held) -> Rank:
    """Lower goes first."""
    return (int(held.priority), held.arrived_s, held.request_id)
