"""What is refused because it could not be answered in time, when it arrives and when it would start.

    Ŵ       = work that goes before it / rate,   rate = slots, each by how fast its worker is
    admit   iff  now + Ŵ + P + s ≤ limit,        limit = the earlier of its deadline and its objective for a first token
    retry   = (Ŵ + P + s - (limit - now)) · (1 + U[0, 0.5])

Where it is not feasible, whatever before it in its class takes more work than it is refused in its stead, the most
first: for the same work more requests are answered. Nothing is refused that has had a first token, or that ran before.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from headrace.contract.errors import Overloaded
from headrace.contract.values import Failure
from headrace.router.core.held import Held

MIN_RETRY_S = 0.1


def limit_s(held: Held, first_token_s: tuple[float, ...]) -> float:
    """When it must have its first token; inf = no limit."""
    deadline_s = inf if held.deadline_s is None else held.deadline_s
    return min(deadline_s, held.arrived_s + first_token_s[held.priority])


def may_refuse(held: Held) -> bool:
    """Whether nothing was spent on it yet."""
    return held.generated == 0 and held.attempts == 0


def victims(held: Held, peers: Iterable[Held], excess_s: float) -> list[Held] | None:
    """Whom to refuse so that `excess_s` seconds of lane work less go before `held`: those that take more work than it,
    the most first. None where these do not suffice: then it is itself.
    """
    found: list[Held] = []
    larger = [peer for peer in peers if peer.work_s > held.work_s and may_refuse(peer)]
    for peer in sorted(larger, key=lambda peer: (-peer.work_s, peer.request_id)):
        if excess_s <= 0:
            break
        found.append(peer)
        excess_s -= peer.work_s
    return found if excess_s <= 0 else None


def refusal(late_s: float, jitter: float) -> Failure:
    """What its client is told; `jitter` in [0, 1) spreads the next tries."""
    retry_after_s = max(MIN_RETRY_S, late_s * (1 + jitter / 2))
    error = Overloaded("its first token would come too late", retry_after_s)
    return Failure(code=error.code, message=str(error), retry_after_s=retry_after_s)
