"""How many messages each queue may still send here.

Queues live in the broker: a router holds only what its lanes can take soon, and a little more for grouping. So a flood
in one queue waits in that queue, and the head of every other queue is seen.

    target(queue) = room of the lanes that serve its model + look-ahead, or 0 where no lane does
    pull          = target - waiting here - pulled and still to come, within what the router may hold in all; and still
                    to come at most an equal share of that, so that idle queues leave room for those that are not

Messages of unknown models and of subjects that name no queue are pulled one by one, to be refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class QueueDemand:
    """One queue that the broker holds messages of, or held before. Written by Demand alone."""

    model: str | None
    coming: int = 0
    """Pulled, and not arrived yet."""


@dataclass(slots=True, kw_only=True)
class Demand:
    """All queues, by subject. Bounded by the number of queues that the shell lets be seen."""

    max_held: int
    lookahead: int
    _queues: dict[str, QueueDemand] = field(default_factory=dict)
    _waiting: dict[str, int] = field(default_factory=dict)
    """Requests that wait here, by queue, be it watched or not: it can be forgotten, and seen again, while they wait."""
    _coming: int = 0
    """Sum over all queues."""
    _changed: dict[str, None] = field(default_factory=dict)
    """Queues whose demand may have grown since they were last asked for; a dict, for its order."""

    def see(self, queue: str, model: str | None) -> None:
        if queue not in self._queues:
            self._queues[queue] = QueueDemand(model=model)
            self._changed[queue] = None

    def forget(self, queue: str) -> None:
        """It is not watched any more; what was pulled of it never comes."""
        if (known := self._queues.pop(queue, None)) is not None:
            self._coming -= known.coming
            self._changed.pop(queue, None)

    def arrived(self, queue: str, count: int = 1) -> None:
        """`count` pulled messages came, or never will."""
        if (known := self._queues.get(queue)) is not None:
            answered = min(count, known.coming)
            known.coming -= answered
            self._coming -= answered
            self._changed[queue] = None

    def waits(self, queue: str, change: int) -> None:
        """`change` more, or fewer, requests of the queue wait here."""
        waiting = self._waiting.get(queue, 0) + change
        if waiting:
            self._waiting[queue] = waiting
        else:
            self._waiting.pop(queue, None)
        if queue in self._queues:
            self._changed[queue] = None

    def all_changed(self) -> None:
        """Lanes or models came or went."""
        self._changed = dict.fromkeys(self._queues)

    def changed(self, held: int) -> Iterator[tuple[str, str | None]]:
        """(queue, model) of the queues to ask for now, until the router, which holds `held`, is full."""
        changed = iter(self._changed)
        self._changed = {}
        for queue in changed:
            if held + self._coming >= self.max_held:
                self._changed |= dict.fromkeys((queue, *changed))  # they are asked for when there is room
                return
            yield queue, self._queues[queue].model

    def pull(self, queue: str, room: int, held: int) -> int:
        """How many to pull now; counts them as coming. `room` is that of the lanes, `held` what the router holds."""
        return self._take(queue, room + self.lookahead if room else 0, held)

    def pull_to_refuse(self, queue: str, held: int) -> int:
        """The same for a queue whose messages can only be refused."""
        return self._take(queue, 1, held)

    def _take(self, queue: str, target: int, held: int) -> int:
        known = self._queues[queue]
        wanted = target - self._waiting.get(queue, 0) - known.coming
        share = max(1, self.max_held // len(self._queues)) - known.coming
        room = self.max_held - held - self._coming
        count = min(wanted, share, room)
        if min(wanted, share) > max(room, 0):
            self._changed[queue] = None  # the router is full: ask again at the next event
        if count <= 0:
            return 0
        known.coming += count
        self._coming += count
        return count
