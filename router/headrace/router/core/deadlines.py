"""The deadlines of the held requests, and the time at which the shell is to wake the scheduler for the next of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

_Entry = tuple[float, str]


@dataclass(slots=True)
class Deadlines:
    """Deadlines by request. Bounded by the requests held: what a removed one leaves in the heap is swept out when it
    is more than half of it.
    """

    _of: dict[str, float] = field(default_factory=dict)
    _heap: list[_Entry] = field(default_factory=list)
    """Every deadline of `_of`, and those of removed requests until they are swept or come up."""
    _wake_s: float | None = None
    """When the shell says Woke next; None where nobody asked it to."""

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._of

    def add(self, request_id: str, deadline_s: float) -> None:
        self._of[request_id] = deadline_s
        heappush(self._heap, (deadline_s, request_id))

    def remove(self, request_id: str) -> None:
        if self._of.pop(request_id, None) is not None and len(self._heap) > 2 * len(self._of) + 64:
            self._heap = [(deadline_s, held) for held, deadline_s in self._of.items()]
            heapify(self._heap)

    def pop_due(self, now: float) -> list[str]:
        """Takes out the requests whose deadline has come, the earliest first."""
        due: list[str] = []
        while self._heap and self._heap[0][0] <= now:
            entry = heappop(self._heap)
            if self._is_live(entry):
                del self._of[entry[1]]
                due.append(entry[1])
        return due

    def woke(self) -> None:
        """The shell said Woke."""
        self._wake_s = None

    def next_wake(self, also_s: float | None = None) -> float | None:
        """When to be woken, at the latest at `also_s`, where that is earlier than the shell knows; counts as said."""
        while self._heap and not self._is_live(self._heap[0]):
            heappop(self._heap)
        times = [at_s for at_s in (self._heap[0][0] if self._heap else None, also_s) if at_s is not None]
        if not times or (self._wake_s is not None and self._wake_s <= min(times)):
            return None
        self._wake_s = min(times)
        return self._wake_s

    def _is_live(self, entry: _Entry) -> bool:
        deadline_s, request_id = entry
        return self._of.get(request_id) == deadline_s
