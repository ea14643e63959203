"""One worker's open `Work` stream: what it is, what it runs, and what waits to be sent to it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from headrace.contract.admin import Member, MemberKind
from headrace.contract.log_level import LogLevel
from headrace.contract.work import (
    BatchEnded,
    ComingModel,
    Peer,
    RouterMessage,
    ServedModel,
    StartBatch,
    WorkerJoin,
)


@dataclass(slots=True, eq=False)
class WorkerLink:
    """Bounded by the core: one batch per free lane, one stop per assignment of a running batch, and of pauses and
    resumes the last per batch. Of what else is to be told only the latest waits.

    Invariant: `lanes` has the batch of every lane that runs one, and `assigned` has the assignments of those batches
    that have not ended. A worker's word on anything else is nobody's: it cannot speak for another worker's work.
    """

    join: WorkerJoin
    offered: dict[str, ServedModel]
    """What it has loaded."""
    models: frozenset[str]
    """Those of them that this router holds too: what it can be given batches of."""
    heard_s: float
    """When it last said anything, on the loop's clock."""
    lanes: dict[int, StartBatch] = field(default_factory=dict)
    assigned: set[int] = field(default_factory=set)
    leftover: set[int] = field(default_factory=set)
    """Lanes that still compute what another router gave them: no batch is sent for those."""
    start: list[StartBatch] = field(default_factory=list)
    cancel: list[int] = field(default_factory=list)
    pause: set[int] = field(default_factory=set)
    resume: set[int] = field(default_factory=set)
    paused: set[int] = field(default_factory=set)
    """Batches of `lanes` that it was told to pause."""
    router_leaves: bool = False
    """The worker is to join another router."""
    leave: bool = False
    """The worker is to end."""
    log_level: LogLevel | None = None
    """How much the worker is to log, where it has not heard of the latest word yet."""
    peers: tuple[Peer, ...] | None = None
    """The living routers, where it has not heard of the latest yet."""
    draining: bool = False
    """It said that it takes no more batches."""
    coming: tuple[ComingModel, ...] = ()
    """What it is about to have."""
    released: list[str] = field(default_factory=list)
    """Models that it wants to unload and is given no batches of any more, where it has not heard so yet."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def run(self, batch: StartBatch) -> None:
        """Sends a batch for a free lane."""
        self.start.append(batch)
        self.lanes[batch.lane] = batch
        self.assigned.update(entry.assignment for entry in batch.entries)
        self.ready.set()

    def hold(self, batch: int) -> None:
        """Has a batch pause; one that has ended meanwhile needs no word."""
        if not self._runs(batch):
            return
        self.paused.add(batch)
        self.resume.discard(batch)
        self.pause.add(batch)
        self.ready.set()

    def go_on(self, batch: int) -> None:
        """Has a paused batch go on; one that has ended meanwhile needs no word."""
        if not self._runs(batch):
            return
        self.paused.discard(batch)
        self.pause.discard(batch)
        self.resume.add(batch)
        self.ready.set()

    def release(self, model: str) -> None:
        """Tells it that no batch of a model comes any more."""
        self.released.append(model)
        self.ready.set()

    def end(self, ended: BatchEnded) -> bool:
        """Whether the lane ran that batch; now it runs none."""
        batch = self.lanes.get(ended.lane)
        if batch is None or batch.batch != ended.batch:
            return False
        del self.lanes[ended.lane]
        for batches in (self.pause, self.resume, self.paused):
            batches.discard(ended.batch)
        self.assigned.difference_update(entry.assignment for entry in batch.entries)
        return True

    def free(self, lane: int) -> bool:
        """Whether the lane had something left over from another router; now it has nothing."""
        if lane not in self.leftover:
            return False
        self.leftover.remove(lane)
        return True

    def take(self) -> RouterMessage:
        """Everything that waits."""
        self.ready.clear()
        message = RouterMessage(
            start=tuple(self.start),
            cancel=tuple(self.cancel),
            draining=self.router_leaves,
            peers=self.peers,
            leave=self.leave,
            pause=tuple(sorted(self.pause)),
            resume=tuple(sorted(self.resume)),
            released=tuple(self.released),
            log_level=self.log_level,
        )
        self.start, self.cancel, self.peers, self.pause, self.resume = [], [], None, set(), set()
        self.released, self.log_level = [], None
        return message

    def members_of(self, batch: int) -> tuple[str, ...]:
        """The requests of a batch that still run, by id."""
        for running in self.lanes.values():
            if running.batch == batch:
                return tuple(
                    entry.request_id for entry in running.entries if entry.assignment in self.assigned
                )
        return ()

    def _runs(self, batch: int) -> bool:
        return any(running.batch == batch for running in self.lanes.values())

    def member(self, router_id: str) -> Member:
        """As operators see it."""
        return Member(
            kind=MemberKind.WORKER,
            id=self.join.name,
            started_s=self.join.started_s,
            draining=self.draining or self.leave,
            requests=len(self.assigned),
            router=router_id,
            lanes=self.join.lanes,
            busy_lanes=len(self.lanes) + len(self.leftover),
            slots=self.join.slots or self.join.lanes,
            paused_lanes=len(self.paused),
            models=tuple(sorted(self.models)),
            device=self.join.device.kind,
            hardware=self.join.device,
            metrics=self.join.metrics,
        )
