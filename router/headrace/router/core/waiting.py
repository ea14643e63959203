"""The waiting requests, in order: per model, and per set of requests that could share a batch."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import TypeVar

from headrace.contract.values import Priority, Sampling
from headrace.router.core.held import Held
from headrace.router.core.order import Rank, rank

_K = TypeVar("_K")

BatchKey = tuple[str, Priority, Sampling, int]
"""Model, class, sampling, context: requests of one key have equal lengths and can decode in lockstep."""


def batch_key(held: Held) -> BatchKey:
    return (held.model, held.priority, held.sampling, held.context)


class WaitingList:
    """Held requests that no lane has, sorted by rank.

    Invariant: each is in the list of its model and in that of its batch key, under the rank and key that it had when
    it was added; neither changes while it waits.
    """

    def __init__(self) -> None:
        self._by_model: dict[str, list[tuple[Rank, Held]]] = {}
        self._by_key: dict[BatchKey, list[tuple[Rank, Held]]] = {}
        self._counts: dict[str, list[int]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Held]:
        for entries in self._by_model.values():
            for _, held in entries:
                yield held

    def __repr__(self) -> str:
        return f"WaitingList({ {model: len(entries) for model, entries in self._by_model.items()} })"

    def add(self, held: Held) -> None:
        entry = (rank(held), held)
        insort(self._by_model.setdefault(held.model, []), entry, key=_rank_of)
        insort(self._by_key.setdefault(batch_key(held), []), entry, key=_rank_of)
        self._counts.setdefault(held.model, [0] * len(Priority))[held.priority] += 1
        self._size += 1

    def remove(self, held: Held) -> None:
        _remove(self._by_model, held.model, held)
        _remove(self._by_key, batch_key(held), held)
        self._counts[held.model][held.priority] -= 1
        self._size -= 1

    def head(self, model: str) -> Held | None:
        """The request of `model` that goes first."""
        entries = self._by_model.get(model)
        return entries[0][1] if entries else None

    def models(self) -> list[str]:
        """Models that have waiting requests."""
        return list(self._by_model)

    def compatible(self, held: Held) -> Sequence[Held]:
        """The waiting requests that can share a batch with `held`, itself included, in order."""
        return [other for _, other in self._by_key.get(batch_key(held), ())]

    def count(self, model: str) -> tuple[int, ...]:
        """Waiting requests of `model` by Priority."""
        return tuple(self._counts.get(model, [0] * len(Priority)))


def _rank_of(entry: tuple[Rank, Held]) -> Rank:
    return entry[0]


def _remove(lists: dict[_K, list[tuple[Rank, Held]]], key: _K, held: Held) -> None:
    entries = lists[key]
    index = bisect_left(entries, rank(held), key=_rank_of)
    assert entries[index][1] is held, "a waiting request stands where its rank says"
    del entries[index]
    if not entries:
        del lists[key]
