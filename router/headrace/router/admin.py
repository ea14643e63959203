"""What operators are told of this router and its workers, and how they have one of them drain."""

from __future__ import annotations

import time
from collections.abc import Callable

from headrace.contract.admin import DrainBegun, Member, MemberKind
from headrace.router.workers import Workers
from headrace.runtime.shutdown import Shutdown


class Admin:
    """Speaks for this router and for its workers. Holds nothing but what it was told at the start."""

    def __init__(
        self,
        router_id: str,
        address: str,
        *,
        metrics: str,
        workers: Workers,
        held: Callable[[], int],
        shutdown: Shutdown,
        grace_s: float,
    ) -> None:
        """`held` counts the requests that this router holds; `metrics` is where Prometheus finds it."""
        self._router_id = router_id
        self._address = address
        self._metrics = metrics
        self._started_s = time.time()
        self._workers = workers
        self._held = held
        self._shutdown = shutdown
        self._grace_s = grace_s

    def members(self) -> tuple[Member, ...]:
        """This router, and its workers."""
        workers = self._workers.members()
        return (self._own(workers), *workers)

    def drain(self, kind: MemberKind, member_id: str) -> DrainBegun | None:
        """Has that member drain and end; None where it is not here."""
        if kind is MemberKind.WORKER:
            return self._workers.drain(member_id)
        if kind is not MemberKind.ROUTER or member_id != self._router_id:
            return None
        begun = DrainBegun(member=self._own(self._workers.members()), grace_s=self._grace_s)
        self._shutdown.request("an operator asked for it")
        return begun

    def _own(self, workers: tuple[Member, ...]) -> Member:
        return Member(
            kind=MemberKind.ROUTER,
            id=self._router_id,
            address=self._address,
            started_s=self._started_s,
            draining=self._shutdown.draining,
            requests=self._held(),
            lanes=sum(worker.lanes for worker in workers),
            busy_lanes=sum(worker.busy_lanes for worker in workers),
            slots=sum(worker.slots for worker in workers),
            paused_lanes=sum(worker.paused_lanes for worker in workers),
            metrics=self._metrics,
            models=tuple(sorted({model for worker in workers for model in worker.models})),
        )
