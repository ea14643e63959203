"""The waiting requests: in order by model, effective class and tenant; and by context, for those that may go along."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, merge
from math import inf
from typing import Generic, TypeVar

from headrace.contract.values import Priority, Sampling
from headrace.router.core.fairness import Fairness
from headrace.router.core.grouping import goes_alone, goes_apart
from headrace.router.core.held import Held, Waiting
from headrace.router.core.order import Rank, promoted_s, rank

Line = tuple[str, bool]
"""Model, apart: requests of one line wait for the same lanes."""
Place = tuple[int, Rank]
"""Context, and among those of one length the rank."""
Kind = tuple[Sampling, str]
"""As in Held."""
LEVELS = range(len(Priority))

_R = TypeVar("_R", Rank, Place)


def line_of(held: Held) -> Line:
    return (held.model, goes_apart(held))


@dataclass(slots=True)
class _Sorted(Generic[_R]):
    """Requests by a key that does not change while they wait; `keys[i]` is that of `held[i]`."""

    keys: list[_R] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)

    def add(self, key: _R, held: Held) -> None:
        index = bisect_left(self.keys, key)
        self.keys.insert(index, key)
        self.held.insert(index, held)

    def remove(self, key: _R, held: Held) -> None:
        index = bisect_left(self.keys, key)
        assert self.held[index] is held, "a waiting request stands where its key says"
        del self.keys[index]
        del self.held[index]


@dataclass(slots=True)
class _Class:
    """The requests of one line and effective class. No list in it is empty."""

    tenants: dict[str, _Sorted[Rank]] = field(default_factory=dict)
    companions: dict[Kind, _Sorted[Place]] = field(default_factory=dict)
    """Those that may share a batch, by context."""
    work_s: float = 0.0


class WaitingList:
    """Held requests that no lane has.

    Invariant: each stands in the class of its line and `level`, under the rank and context that it had when it was
    added; only `promote` changes a level meanwhile.
    """

    def __init__(self, fairness: Fairness, *, ageing_s: float) -> None:
        self._fairness = fairness
        self._ageing_s = ageing_s
        self._lines: dict[Line, tuple[_Class, ...]] = {}
        self._counts: dict[str, list[int]] = {}
        self._size = 0
        self._ages: list[tuple[float, int, Held]] = []
        """When requests count as more urgent; also of those that wait no more, until they come up or are swept."""
        self._watched = 0
        """Counts the entries of it, for a total order."""

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Held]:
        for line in self._lines:
            yield from self._in(line)

    def __repr__(self) -> str:
        return f"WaitingList({ {line: sum(1 for _ in self._in(line)) for line in self._lines} })"

    def add(self, held: Held) -> None:
        self._enter(held)
        self._counts.setdefault(held.model, [0] * len(Priority))[held.priority] += 1
        self._size += 1
        self._watch(held)

    def remove(self, held: Held) -> None:
        self._exit(held)
        self._counts[held.model][held.priority] -= 1
        self._size -= 1

    def promote(self, now: float) -> None:
        """Requests that have waited long enough count as more urgent from now on."""
        while self._ages and self._ages[0][0] <= now:
            at_s, _, held = heappop(self._ages)
            if isinstance(held.state, Waiting) and at_s == promoted_s(held, self._ageing_s):
                self._exit(held)
                held.level -= 1
                self._enter(held)
                self._watch(held)

    def rank(self, held: Held) -> Rank:
        return rank(held, self._ageing_s)

    def heads(self) -> list[tuple[Line, Held]]:
        """The lines that have somebody, and who goes first in each."""
        found = []
        for line in self._lines:
            if (head := self.head(line)) is not None:
                found.append((line, head))
        return found

    def head(self, line: Line) -> Held | None:
        """Who goes first in a line."""
        for level, those in enumerate(self._lines.get(line, ())):
            if those.tenants:
                return self._first(line, level, those)
        return None

    def in_order(self, line: Line) -> Iterator[Held]:
        """Those of a line, who goes first first; good until the next change."""
        for level, those in enumerate(self._lines.get(line, ())):
            share = (line[0], level)
            ahead = self._fairness.over(share, those.tenants)
            for over in (False, True):
                queues = [q for tenant, q in those.tenants.items() if (tenant in ahead) is over]
                for _, held in merge(*(zip(q.keys, q.held, strict=True) for q in queues), key=_key):
                    yield held

    def companions(self, head: Held) -> Iterator[Held]:
        """Those that may share a batch with `head`, the nearest in context first; good until the next change."""
        those = self._lines[line_of(head)][head.level].companions.get(head.kind)
        if those is None or goes_alone(head):
            return
        middle = bisect_left(those.keys, (head.context, rank(head, self._ageing_s)))
        yield from _nearest(those.held, middle - 1, middle + 1, head.context)

    def near(self, head: Held, context: int) -> Iterator[Held]:
        """The same, `head` included, but the nearest to `context` first."""
        those = self._lines[line_of(head)][head.level].companions.get(head.kind)
        if those is None or goes_alone(head):
            return
        middle = bisect_left(those.held, context, key=_context)
        yield from _nearest(those.held, middle - 1, middle, context)

    def alike(self, head: Held) -> int:
        """How many may share a batch with `head`, itself included."""
        those = self._lines[line_of(head)][head.level].companions.get(head.kind)
        return len(those.held) if those is not None and not goes_alone(head) else 1

    def ahead(self, held: Held) -> tuple[int, float]:
        """How many of its line go before a request that waits, or would if it did, and their work in seconds."""
        count, work_s = 0, 0.0
        for level, those in enumerate(self._lines.get(line_of(held), ())):
            if level > held.level:
                break
            size = sum(len(queue.keys) for queue in those.tenants.values())
            before = size
            if level == held.level:
                own = rank(held, self._ageing_s)
                before = sum(bisect_left(queue.keys, own) for queue in those.tenants.values())
            count += before
            work_s += those.work_s * before / size if size else 0.0
        return count, work_s

    def peers(self, held: Held) -> Iterator[Held]:
        """Those of its line and effective class."""
        classes = self._lines.get(line_of(held))
        for queue in classes[held.level].tenants.values() if classes else ():
            yield from queue.held

    def models(self) -> list[str]:
        """Models that have waiting requests."""
        return list(dict.fromkeys(model for model, _ in self._lines))

    def of(self, model: str) -> list[Held]:
        """The waiting requests of `model`."""
        return [held for apart in (False, True) for held in self._in((model, apart))]

    def count(self, model: str) -> tuple[int, ...]:
        """Waiting requests of `model` by Priority."""
        return tuple(self._counts.get(model, [0] * len(Priority)))

    def _in(self, line: Line) -> Iterator[Held]:
        for those in self._lines.get(line, ()):
            for queue in those.tenants.values():
                yield from queue.held

    def _first(self, line: Line, level: int, those: _Class) -> Held:
        over = self._fairness.over((line[0], level), those.tenants)
        queues = [queue for tenant, queue in those.tenants.items() if tenant not in over]
        return min(queues or those.tenants.values(), key=_first_key).held[0]

    def _enter(self, held: Held) -> None:
        line = line_of(held)
        if line not in self._lines:
            self._lines[line] = tuple(_Class() for _ in LEVELS)
        those = self._lines[line][held.level]
        those.tenants.setdefault(held.tenant, _Sorted()).add(rank(held, self._ageing_s), held)
        if not goes_alone(held):
            those.companions.setdefault(held.kind, _Sorted()).add(
                (held.context, rank(held, self._ageing_s)), held
            )
        those.work_s += held.work_s
        self._fairness.joined((held.model, held.level), held.tenant)

    def _exit(self, held: Held) -> None:
        line = line_of(held)
        those = self._lines[line][held.level]
        _take(those.tenants, held.tenant, rank(held, self._ageing_s), held)
        if not goes_alone(held):
            _take(those.companions, held.kind, (held.context, rank(held, self._ageing_s)), held)
        those.work_s = those.work_s - held.work_s if those.tenants else 0.0
        if not any(other.tenants for other in self._lines[line]):
            del self._lines[line]
        self._fairness.left((held.model, held.level), held.tenant)

    def _watch(self, held: Held) -> None:
        if held.level == 0 or self._ageing_s == inf:
            return
        self._watched += 1
        heappush(self._ages, (promoted_s(held, self._ageing_s), self._watched, held))
        if len(self._ages) > 2 * self._size + 64:
            waiting = [held for held in self if held.level]
            self._ages = [(promoted_s(held, self._ageing_s), i, held) for i, held in enumerate(waiting)]
            self._watched = len(waiting)
            heapify(self._ages)


_T = TypeVar("_T", str, Kind)


def _take(lists: dict[_T, _Sorted[_R]], name: _T, key: _R, held: Held) -> None:
    those = lists[name]
    those.remove(key, held)
    if not those.held:
        del lists[name]


def _nearest(held: list[Held], low: int, high: int, context: int) -> Iterator[Held]:
    """From `low` downwards and from `high` upwards."""
    end = len(held)
    while low >= 0 or high < end:
        below = context - held[low].context if low >= 0 else inf
        above = held[high].context - context if high < end else inf
        if below <= above:
            yield held[low]
            low -= 1
        else:
            yield held[high]
            high += 1


def _first_key(queue: _Sorted[Rank]) -> Rank:
    return queue.keys[0]


def _context(held: Held) -> int:
    return held.context


def _key(entry: tuple[Rank, Held]) -> Rank:
    return entry[0]
