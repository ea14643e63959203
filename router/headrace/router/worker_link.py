"""One worker's open `Work` stream: what it is, what it runs, and what waits to be sent to it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from headrace.contract.admin import Member, MemberKind
from headrace.contract.work import EntryProgress, Peer, RouterMessage, StartBatch, WorkerJoin


@dataclass(slots=True, eq=False)
class WorkerLink:
    """Bounded by the core: one batch per free lane, and one stop per assignment of a running batch. Of what else is to
    be told only the latest waits.

    Invariant: `batches` and `entries` are those that were sent, or wait to be, and have not ended.
    """

    join: WorkerJoin
    models: frozenset[str]
    """Those of its models that this router holds too."""
    heard_s: float
    """When it last said anything, on the loop's clock."""
    start: list[StartBatch] = field(default_factory=list)
    cancel: list[int] = field(default_factory=list)
    router_leaves: bool = False
    """The worker is to join another router."""
    leave: bool = False
    """The worker is to end."""
    peers: tuple[Peer, ...] | None = None
    """The living routers, where it has not heard of the latest yet."""
    draining: bool = False
    """It takes no more batches."""
    batches: set[int] = field(default_factory=set)
    entries: set[int] = field(default_factory=set)
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self, batch: StartBatch) -> None:
        """Has a batch sent."""
        self.batches.add(batch.batch)
        self.entries.update(entry.assignment for entry in batch.entries)
        self.start.append(batch)
        self.ready.set()

    def take(self) -> RouterMessage:
        """Everything that waits."""
        self.ready.clear()
        message = RouterMessage(
            start=tuple(self.start),
            cancel=tuple(self.cancel),
            draining=self.router_leaves,
            peers=self.peers,
            leave=self.leave,
        )
        self.start, self.cancel, self.peers = [], [], None
        return message

    def progressed(self, progress: EntryProgress) -> None:
        """What an entry made, or that it ended."""
        if progress.end is not None:
            self.entries.discard(progress.assignment)

    def member(self, router_id: str) -> Member:
        """As operators see it."""
        return Member(
            kind=MemberKind.WORKER,
            id=self.join.name,
            started_s=self.join.started_s,
            draining=self.draining or self.leave,
            requests=len(self.entries),
            router=router_id,
            lanes=self.join.lanes,
            busy_lanes=len(self.batches),
            models=tuple(sorted(self.models)),
            device=self.join.device.kind,
        )
