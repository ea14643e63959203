"""What an operator sees and asks of the mesh: its members, and that one of them is to drain."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from headrace.contract.work import Device


class MemberKind(enum.Enum):
    """What a process of the mesh is; the value is the word in a subject, a flag or a table."""

    ROUTER = "router"
    GATEWAY = "gateway"
    WORKER = "worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One process, as it says itself; a worker, as its router says."""

    kind: MemberKind
    id: str
    """Unique among living members of its kind. A worker's is its name."""
    address: str = ""
    """Where it listens; empty for a worker."""
    started_s: float = 0.0
    """When its process started, in Unix time. Another one is another process."""
    draining: bool = False
    """Whether it takes nothing new any more."""
    requests: int = 0
    """Requests that a router holds, streams that clients hold at a gateway, entries that a worker runs."""
    router: str = ""
    """A worker's router."""
    lanes: int = 0
    """A worker's lanes; for a router those of all its workers."""
    busy_lanes: int = 0
    """Those of them that have a batch."""
    slots: int = 0
    """Lanes that run at once; the others hold batches that are paused. 0 from a member that knows of no such thing."""
    paused_lanes: int = 0
    """Those of `busy_lanes` whose batch is paused."""
    models: tuple[str, ...] = ()
    device: str = ""
    """A worker's device: "cpu" or "cuda"."""
    hardware: Device | None = None
    """That device with its numbers; None for others, and for a worker of a router that knows of no such thing."""
    metrics: str = ""
    """host:port at which Prometheus finds its metrics; empty where nowhere."""

    @property
    def title(self) -> str:
        """`worker box-1`."""
        return f"{self.kind.value} {self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainBegun:
    """The answer of a member that was asked to drain."""

    member: Member
    """As it was."""
    grace_s: float
    """How long it will take at most, by its own settings."""
