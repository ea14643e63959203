"""A virtual broker: queues that give what is pulled, at once where they have it and else when it comes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from headrace.simulator.asked import Life


@dataclass(slots=True)
class _Queue:
    waiting: deque[Life] = field(default_factory=deque)
    """Bounded by the load: a virtual flood costs no memory that the load has not."""
    pulled: int = 0
    """And not given yet."""


class Broker:
    """One queue for each (priority, tenant).

    A pull stands until it is answered, and never lapses: a core that may hold less than one request per queue waits for
    those that are empty.
    """

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    def __len__(self) -> int:
        """Requests that wait there."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    def publish(self, name: str, life: Life) -> bool:
        """Takes a request in; whether its queue is a new one."""
        queue = self._queues.get(name)
        is_new = queue is None
        if queue is None:
            queue = self._queues[name] = _Queue()
        queue.waiting.append(life)
        return is_new

    def give_back(self, name: str, life: Life) -> None:
        """A request that was not done goes first."""
        self._queues[name].waiting.appendleft(life)

    def pull(self, name: str, count: int) -> list[Life]:
        """Asks for `count` more, and gives those that are there."""
        self._queues[name].pulled += count
        return self.due(name)

    def due(self, name: str) -> list[Life]:
        """What was pulled, and is there now."""
        queue = self._queues[name]
        count = min(queue.pulled, len(queue.waiting))
        queue.pulled -= count
        return [queue.waiting.popleft() for _ in range(count)]
