"""What every batch is on the event loop, whatever its entries make: it is paused, resumed, and ended one by one."""

from __future__ import annotations

import time
from typing import Generic, Protocol, TypeVar

from headrace.contract.errors import EngineFailed, HeadraceError, Unavailable
from headrace.contract.values import Failure
from headrace.contract.work import EntryEnd, StartBatch
from headrace.worker.gate import Turn
from headrace.worker.outbox import Outbox
from headrace.worker.spans import BatchTrace

_ENDED_EARLY = EngineFailed("it ended the entry before its end")
_LEFT = Unavailable("worker", "left before the end")


class LiveEntry(Protocol):
    """One entry; the router hears of exactly one end of it."""

    assignment: int
    end: EntryEnd | None

    def conclude(self, end: EntryEnd) -> None:
        """Ends the entry, unless it has ended, without a word to the router."""

    def finish(self, end: EntryEnd, outbox: Outbox) -> None:
        """Ends the entry, unless it has ended, and tells the router."""


_Entry = TypeVar("_Entry", bound=LiveEntry)


class HeldBatch(Generic[_Entry]):
    """A batch that a lane runs: what its entries make goes to the outbox, and at last that the lane is free.

    `entries` are those that can run, fixed from the start; the others are answered at once.
    """

    entries: list[_Entry]

    def __init__(self, start: StartBatch, outbox: Outbox, trace: BatchTrace | None, turn: Turn) -> None:
        self.id = start.batch
        self.lane = start.lane
        self._outbox = outbox
        self._trace = trace
        self._turn = turn
        self._abandoned = False
        self._began_s = time.monotonic()

    def __repr__(self) -> str:
        live = sum(entry.end is None for entry in self.entries)
        paused = ", paused" if self.paused else ""
        kind = type(self).__name__
        return f"<{kind} {self.id} on lane {self.lane}: {live} of {len(self.entries)} entries live{paused}>"

    @property
    def paused(self) -> bool:
        """Whether it is to stand still."""
        return self._turn.paused

    def ran_s(self) -> float:
        """How long it has been there, pauses included."""
        return time.monotonic() - self._began_s

    def pause(self) -> None:
        """Has the lane stand still at the next chance; what it has made until then still comes."""
        self._turn.pause()
        if self._trace is not None:
            self._trace.pause()
        self._release_if_over()

    def resume(self) -> None:
        """Has it go on."""
        self._turn.resume()
        if self._trace is not None:
            self._trace.resume()

    def cancel(self, assignment: int) -> None:
        """Ends one entry now; the engine hears of it at the next chance, of the last one though it is paused."""
        for entry in self.entries:
            if entry.assignment == assignment:
                entry.finish(EntryEnd(cancelled=True), self._outbox)
        self._release_if_over()

    def abandon(self) -> None:
        """Ends all entries without a word to the router, which learns it from the end of the stream."""
        self._abandoned = True
        for entry in self.entries:
            entry.conclude(EntryEnd(failure=Failure.of(_LEFT)))
        self._release_if_over()

    def finish(self, failure: EngineFailed | None) -> None:
        """The lane is free. Entries that have not ended failed."""
        for entry in self.entries:
            entry.finish(EntryEnd(failure=Failure.of(failure or _ENDED_EARLY)), self._outbox)
        if not self._abandoned:
            self._outbox.add_batch_ended(self.id, self.lane)
        if self._trace is not None:
            self._trace.end("" if failure is None else failure.code)

    def _release_if_over(self) -> None:
        """Nobody waits for it any more: its lane is to be free."""
        if all(entry.end is not None for entry in self.entries):
            self._turn.release()


def refuse_batch(start: StartBatch, error: HeadraceError, outbox: Outbox) -> None:
    """Answers a batch that is not run: every entry failed with `error`, and the batch has ended."""
    for entry in start.entries:
        outbox.add_end(entry.assignment, EntryEnd(failure=Failure.of(error)))
    outbox.add_batch_ended(start.batch, start.lane)
