"""What router and gateway say to each other on `Deliver`, as values. A message holds whatever was ready."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.contract.alias import Alias
from headrace.contract.values import Outcome, Priority, QueuePosition, Task, TokenChunk


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldStream:
    """A stream that a client of the gateway holds, with the tokens that it already has."""

    request_id: str
    tenant: str = "default"
    first_index: int = 0
    """Where the client's interest begins: 0, or where it attached."""
    token_ids: tuple[int, ...] = ()
    """From `first_index` on."""
    text: str = ""
    text_lengths: tuple[int, ...] = ()
    """As in TokenChunk."""
    model: str = ""
    """The version that made them, where an alias was asked for; "" where that is not known."""

    @property
    def next_index(self) -> int:
        """The first token that the client does not have."""
        return self.first_index + len(self.token_ids)

    @property
    def output(self) -> TokenChunk | None:
        """All that it holds, as one chunk; None where that is nothing."""
        if not self.token_ids:
            return None
        return TokenChunk(
            first_index=self.first_index,
            token_ids=self.token_ids,
            text=self.text,
            text_lengths=self.text_lengths,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayJoin:
    """What a gateway is, and whom it holds."""

    gateway_id: str
    held: tuple[HeldStream, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayMessage:
    """From gateway to router."""

    join: GatewayJoin | None = None
    """First, once; later ones tell of more streams."""
    left: tuple[str, ...] = ()
    """Requests that no client waits for: nothing more is to be delivered. The answer to a recall of them, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """A router goes on with this request, and asks what the gateway's client has of it."""

    request_id: str
    tenant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that the mesh serves."""

    name: str
    version: str
    task: Task
    context_length: int
    lanes: int
    """Lanes that run it now; 0 = requests wait until a worker comes."""
    alias: Alias | None = None
    """What it comes to, where it is an alias: who answers, and in which shares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoad:
    """A model and what waits for it at one router."""

    model: Model
    waiting: tuple[int, ...]
    """By Priority."""
    seconds_per_request: float
    """Until the lanes take one more waiting request; 0 = nothing known yet."""
    free_lanes: int
    ready_in_s: float | None = None
    """Until a worker has loaded it, where none has; None = unknown, or one has."""

    def position(self, priority: Priority) -> QueuePosition:
        """The place of a request that joins the queue of `priority` now."""
        wait_s = waits_s(
            self.waiting, priority, self.free_lanes, self.seconds_per_request, ready_in_s=self.ready_in_s
        )
        return QueuePosition(ahead=sum(self.waiting[: priority + 1]), estimated_wait_s=wait_s)


def waits_s(
    waiting: tuple[int, ...],
    priority: Priority,
    free_lanes: int,
    seconds_per_request: float,
    *,
    ready_in_s: float | None = None,
) -> float | None:
    """How long a request that joins the queue of `priority` now waits for a lane; None where nothing is known.
    `waiting` is by Priority; `ready_in_s` is as in ModelLoad.
    """
    ahead = sum(waiting[: priority + 1])
    if free_lanes > ahead:
        return 0.0
    if ready_in_s is not None:
        return ready_in_s + ahead * seconds_per_request
    return (ahead + 1) * seconds_per_request if seconds_per_request > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """For one client, in order. Nothing follows `finished`."""

    request_id: str
    tokens: TokenChunk | None = None
    finished: Outcome | None = None
    queued: QueuePosition | None = None
    model: str = ""
    """With the first tokens: the version that makes them, where an alias was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryMessage:
    """From router to gateway."""

    welcome: str = ""
    """The router's id: the answer to a join."""
    catalogue: tuple[ModelLoad, ...] | None = None
    """None = unchanged."""
    deliveries: tuple[Delivery, ...] = ()
    draining: bool = False
    recall: tuple[Recall, ...] = ()
    """Requests whose tokens are this router's from now on."""
