"""What operators are told of this router and its workers, and how they have one of them drain, or log more."""

from __future__ import annotations

import time
from collections.abc import Callable

from headrace.contract.admin import DrainBegun, Member, MemberKind
from headrace.contract.log_level import LogLevel
from headrace.router.workers import Workers
from headrace.runtime.log_level import change_level
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
        log_level: str,
    ) -> None:
        """`held` counts the requests that this router holds; `metrics` is where Prometheus finds it; `log_level` is the
        one that the settings ask for.
        """
        self._router_id = router_id
        self._address = address
        self._metrics = metrics
        self._started_s = time.time()
        self._workers = workers
        self._held = held
        self._shutdown = shutdown
        self._grace_s = grace_s
        self._log_level_set = log_level

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

    def log_level(self, kind: MemberKind, member_id: str, level: LogLevel) -> Member | None:
        """Has that member log so much; None where it is not here."""
        if kind is MemberKind.WORKER:
            return self._workers.log_level(member_id, level)
        if kind is not MemberKind.ROUTER or member_id != self._router_id:
            return None
        change_level(level, self._log_level_set)
        return self._own(self._workers.members())

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
