"""The waiting requests, in order: per model, and per set of requests that could share a batch."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from headrace.contract.values import Priority, Sampling
from headrace.router.core.grouping import goes_alone, goes_apart
from headrace.router.core.held import Held
from headrace.router.core.order import Rank, rank

_K = TypeVar("_K")

Line = tuple[str, bool]
"""Model, apart: requests of one line wait for the same lanes."""
BatchKey = tuple[str, Priority, Sampling, int, bool, bool]
"""Model, class, sampling, context, alone, apart: requests of one key have equal lengths and can decode in lockstep,
unless they are to run alone."""


def _line_of(held: Held) -> Line:
    return (held.model, goes_apart(held))


def batch_key(held: Held) -> BatchKey:
    return (held.model, held.priority, held.sampling, held.context, goes_alone(held), goes_apart(held))


@dataclass(slots=True)
class _Line:
    """Requests in order; `ranks[i]` is that of `held[i]`. Two lists, so that the second can be given away as it is."""

    ranks: list[Rank] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)

    def add(self, at: Rank, held: Held) -> None:
        index = bisect_left(self.ranks, at)
        self.ranks.insert(index, at)
        self.held.insert(index, held)

    def remove(self, at: Rank, held: Held) -> None:
        index = bisect_left(self.ranks, at)
        assert self.held[index] is held, "a waiting request stands where its rank says"
        del self.ranks[index]
        del self.held[index]


class WaitingList:
    """Held requests that no lane has, sorted by rank.

    Invariant: each is in its line and in that of its batch key, under the rank and keys that it had when it was added;
    none changes while it waits. No line is empty.
    """

    def __init__(self) -> None:
        self._by_line: dict[Line, _Line] = {}
        self._by_key: dict[BatchKey, _Line] = {}
        self._counts: dict[str, list[int]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Held]:
        for line in self._by_line.values():
            yield from line.held

    def __repr__(self) -> str:
        return f"WaitingList({ {line: len(those.held) for line, those in self._by_line.items()} })"

    def add(self, held: Held) -> None:
        at = rank(held)
        self._by_line.setdefault(_line_of(held), _Line()).add(at, held)
        self._by_key.setdefault(batch_key(held), _Line()).add(at, held)
        self._counts.setdefault(held.model, [0] * len(Priority))[held.priority] += 1
        self._size += 1

    def remove(self, held: Held) -> None:
        at = rank(held)
        _remove(self._by_line, _line_of(held), at, held)
        _remove(self._by_key, batch_key(held), at, held)
        self._counts[held.model][held.priority] -= 1
        self._size -= 1

    def heads(self) -> list[tuple[Line, Held]]:
        """The lines, and who goes first in each."""
        return [(line, those.held[0]) for line, those in self._by_line.items()]

    def models(self) -> list[str]:
        """Models that have waiting requests."""
        return list(dict.fromkeys(model for model, _ in self._by_line))

    def of(self, model: str) -> list[Held]:
        """The waiting requests of `model`."""
        return [
            held
            for apart in (False, True)
            if (line := self._by_line.get((model, apart)))
            for held in line.held
        ]

    def compatible(self, held: Held) -> Sequence[Held]:
        """The waiting requests of the same batch key, `held` included, in order: good until the next change."""
        line = self._by_key.get(batch_key(held))
        return line.held if line is not None else ()

    def count(self, model: str) -> tuple[int, ...]:
        """Waiting requests of `model` by Priority."""
        return tuple(self._counts.get(model, [0] * len(Priority)))


def _remove(lines: dict[_K, _Line], key: _K, at: Rank, held: Held) -> None:
    line = lines[key]
    line.remove(at, held)
    if not line.held:
        del lines[key]
