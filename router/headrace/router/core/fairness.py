"""Shares of tenants, by what their requests cost in tokens.

    v(tenant)  grows at dispatch by (w_in · prompt + w_out · expected output) / weight, is set right when the request
               ends, and is not charged for what is computed again
    eligible   v ≤ v_min + U, where v_min is the least v of the tenants that wait, U = slack · the largest request

A tenant that had nothing waiting and comes back is lifted to v_min: time away is no credit. So among tenants that
always have something waiting for one model and class, none gets further ahead of another than U and a request or two,
whatever the others send. U = inf is earliest deadline first, U = 0 is strict fair share: between them the order may
follow deadlines and lengths, which is what batching lives on.

Source: the virtual token counter of Sheng et al., Fairness in Serving Large Language Models, OSDI 2024; the slack is
ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

LARGEST_DECAY = 0.999
"""Of the largest request, at each charge: one that was huge is forgotten within some thousand."""
SPARE_TENANTS = 1024
"""Counters of tenants that wait for nothing, kept beyond as many as there are that wait; those least ahead go first."""

Share = tuple[str, int]
"""Model and effective class: tenants share these one by one."""


@dataclass(slots=True)
class _Account:
    """The counters of one share. `backlog` has the tenants that wait, with how many requests."""

    v: dict[str, float] = field(default_factory=dict)
    backlog: dict[str, int] = field(default_factory=dict)
    floor: float = 0.0
    """The last v_min: where a tenant that is new begins."""
    largest: float = 0.0
    lowest: float | None = None
    """v_min, where it has not changed since it was last computed."""

    def v_min(self) -> float:
        if self.lowest is None:
            if self.backlog:
                self.floor = min(self.v[tenant] for tenant in self.backlog)
            self.lowest = self.floor
        return self.lowest


class Fairness:
    """The counters of all tenants. Written by the Scheduler and, as requests come and go, by the WaitingList."""

    def __init__(self, *, slack: float, weights: Mapping[str, float]) -> None:
        self._slack = slack
        self._weights = weights
        self._accounts: dict[Share, _Account] = {}

    def joined(self, share: Share, tenant: str) -> None:
        """A request of the tenant waits."""
        account = self._accounts.setdefault(share, _Account())
        waiting = account.backlog.get(tenant, 0)
        if not waiting:
            account.v[tenant] = max(account.v.get(tenant, 0.0), account.v_min())
            account.lowest = None
        account.backlog[tenant] = waiting + 1

    def left(self, share: Share, tenant: str) -> None:
        """It waits no more."""
        account = self._accounts[share]
        account.backlog[tenant] -= 1
        if not account.backlog[tenant]:
            account.v_min()  # as it was while it waited: where the next begins
            del account.backlog[tenant]
            account.lowest = None
            self._sweep(account)

    def room(self, share: Share, tenant: str) -> float:
        """How much it may still be charged and be eligible; negative where it is not."""
        if self._slack == inf:
            return inf
        account = self._accounts[share]
        if len(account.backlog) == 1:
            return inf  # nobody else waits
        return account.v_min() + self._slack * account.largest - account.v[tenant]

    def over(self, share: Share, tenants: Iterable[str]) -> set[str]:
        """Those of them that are not eligible; each has something waiting."""
        account = self._accounts.get(share)
        if account is None or self._slack == inf or len(account.backlog) == 1:
            return set()
        most, v = account.v_min() + self._slack * account.largest, account.v
        return {tenant for tenant in tenants if v[tenant] > most}

    def cost(self, tenant: str, tokens: float) -> float:
        """What the tenant is charged for weighted tokens."""
        return tokens / self._weights.get(tenant, 1.0)

    def charge(self, share: Share, tenant: str, cost: float) -> None:
        """It gets something of that cost."""
        account = self._accounts.setdefault(share, _Account())
        account.largest = max(account.largest * LARGEST_DECAY, cost)
        self._add(account, tenant, cost)

    def correct(self, share: Share, tenant: str, difference: float) -> None:
        """What it got cost so much more than it was charged."""
        if (account := self._accounts.get(share)) is not None and tenant in account.v:
            self._add(account, tenant, difference)

    def gap(self, share: Share) -> float:
        """How far the tenants that wait are apart."""
        account = self._accounts.get(share)
        waiting = [account.v[tenant] for tenant in account.backlog] if account else []
        return max(waiting) - min(waiting) if waiting else 0.0

    @staticmethod
    def _add(account: _Account, tenant: str, amount: float) -> None:
        account.v[tenant] = account.v.get(tenant, account.v_min()) + amount
        account.lowest = None

    @staticmethod
    def _sweep(account: _Account) -> None:
        if len(account.v) <= 2 * len(account.backlog) + 2 * SPARE_TENANTS:
            return
        away = sorted(
            (tenant for tenant in account.v if tenant not in account.backlog),
            key=lambda tenant: (account.v[tenant], tenant),
        )
        for tenant in away[: len(away) - SPARE_TENANTS]:
            del account.v[tenant]
