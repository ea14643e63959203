"""A virtual worker: lanes that decode batches in lockstep, and slots that let so many of them run.

A batch goes from mark to mark, the steps at which one of its entries has its first token, some progress, or its end;
between two marks its size is constant, and the steps cost what the grids say (see `headrace.router.core.lockstep`).
Pausing and stopping take effect at the end of the step that runs, and a prefill is not interrupted: what holds a batch
is its step's callback.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from headrace.router.core.cost import CostModel
from headrace.simulator.asked import Life
from headrace.simulator.clock import Clock

_FIRST, _PROGRESS, _END = 0, 1, 2
_PROGRESS_EVERY = 8
"""Tokens of an output between its first and last after which it is told of, so that a policy sees it grow."""


class Hearer(Protocol):
    """Who is told what a worker did. It may command the worker at once: the worker's own state is settled."""

    def progressed(self, entry: Entry, tokens: int) -> None:
        """`tokens` more were made since it was last told."""

    def ended(self, entry: Entry) -> None:
        """All were made."""

    def freed(self, worker: VirtualWorker, batch: Batch) -> None:
        """The lane of `batch` is free."""


class Entry:
    """One request's part of a batch."""

    __slots__ = ("assignment", "context", "first_step", "gone", "last_step", "life", "told_step")

    def __init__(self, life: Life, assignment: int = 0) -> None:
        self.life = life
        self.assignment = assignment
        self.context = life.asked.prompt_tokens + life.made
        self.first_step = self.last_step = self.told_step = 0
        """Steps of the batch: of its first token, its last, and the last that was told of."""
        self.gone = False
        """Ended or stopped."""


class State(enum.Enum):
    """Where a batch is."""

    READY = "waits for a slot"
    RUNNING = "runs"
    PAUSED = "paused"
    OVER = "over"


class Batch:
    """What a lane decodes. Written by its worker alone."""

    __slots__ = (
        "base_s",
        "base_step",
        "entries",
        "lane",
        "live",
        "marks",
        "next_step",
        "number",
        "pausing",
        "prefill_s",
        "shortest",
        "state",
        "version",
    )

    def __init__(self, number: int, lane: int, entries: Sequence[Entry]) -> None:
        self.number = number
        self.lane = lane
        self.entries = entries
        self.live = len(entries)
        self.shortest = min(entry.context for entry in entries)
        self.marks = _marks(entries, self.shortest)
        self.state = State.READY
        self.pausing = False
        self.version = 0
        """Of its plan: what was entered into the clock for an earlier one does not happen."""
        self.base_s = 0.0
        self.base_step = 0
        """The part that runs began at `base_s` after `base_step` steps, with `prefill_s` of prefill."""
        self.next_step = 0
        self.prefill_s = 0.0


def _marks(entries: Sequence[Entry], shortest: int) -> list[tuple[int, int, int]]:
    """(step, kind, index), the next one last."""
    marks = []
    for index, entry in enumerate(entries):
        catch_up = entry.context - shortest
        output = entry.life.asked.output_tokens - entry.life.made
        entry.first_step, entry.last_step, entry.told_step = catch_up + 1, catch_up + output, catch_up
        marks += [(entry.first_step, _FIRST, index), (entry.last_step, _END, index)]
        marks += [
            (catch_up + made, _PROGRESS, index) for made in range(_PROGRESS_EVERY, output, _PROGRESS_EVERY)
        ]
    marks.sort(reverse=True)
    return marks


class VirtualWorker:
    """`slots` of its `lanes` run at once; the others hold what is paused or waits for a slot."""

    def __init__(
        self, name: str, *, costs: CostModel, slots: int, lanes: int, clock: Clock, hearer: Hearer
    ) -> None:
        self.name = name
        self.costs = costs
        self.lanes: list[Batch | None] = [None] * lanes
        self.busy_s = 0.0
        """Slot time used, over all slots."""
        self.prefill_again_s = 0.0
        """Of it, spent on prompts and outputs that had been computed before: an upper bound in mixed batches."""
        self._slots = slots
        self._running = 0
        self._ready: deque[Batch] = deque()
        """At most one per lane."""
        self._clock = clock
        self._hearer = hearer

    def start(self, lane: int, number: int, entries: Sequence[Entry]) -> None:
        """A batch on a free lane: it runs as soon as a slot is free."""
        assert self.lanes[lane] is None, "only a free lane takes a batch"
        batch = self.lanes[lane] = Batch(number, lane, entries)
        self._ready.append(batch)
        self._fill_slots()

    def pause(self, number: int) -> None:
        """Holds a batch at its next step; nothing where it is paused or over."""
        batch = self._find(number)
        if batch is None or batch.state is State.PAUSED:
            return
        if batch.state is State.READY:
            self._ready.remove(batch)
            batch.state = State.PAUSED
            return
        batch.pausing = True
        self._end_part_early(batch)

    def resume(self, number: int) -> None:
        """Goes on with it as soon as a slot is free."""
        batch = self._find(number)
        if batch is None:
            return
        batch.pausing = False
        if batch.state is State.PAUSED:
            batch.state = State.READY
            self._ready.append(batch)
            self._fill_slots()

    def stop(self, assignment: int) -> None:
        """Ends an entry at the next step of its batch, or at once where that does not run."""
        for batch in self.lanes:
            for entry in batch.entries if batch else ():
                if batch and entry.assignment == assignment and not entry.gone:
                    entry.gone = True
                    if batch.state is State.RUNNING:
                        self._end_part_early(batch)
                    else:
                        batch.live -= 1
                        if not batch.live:
                            self._clock.at(self._clock.now, self._over, batch)
                    return

    def _find(self, number: int) -> Batch | None:
        return next((batch for batch in self.lanes if batch and batch.number == number), None)

    def _fill_slots(self) -> None:
        while self._ready and self._running < self._slots:
            batch = self._ready.popleft()
            if batch.live:  # else it is over at this very time
                batch.state = State.RUNNING
                self._running += 1
                for entry in batch.entries:
                    entry.life.start_s = min(entry.life.start_s, self._clock.now)
                self._plan(batch)

    def _plan(self, batch: Batch) -> None:
        """The next part: up to the next mark of an entry that is still there."""
        marks = batch.marks
        while batch.entries[marks[-1][2]].gone:
            marks.pop()
        batch.base_s, batch.prefill_s = self._clock.now, 0.0
        if not batch.base_step:
            batch.prefill_s = self.costs.prefill(batch.live, batch.shortest - 1)
            if any(entry.life.made for entry in batch.entries):
                self.prefill_again_s += batch.prefill_s
        batch.next_step = marks[-1][0]
        self._enter(batch)

    def _enter(self, batch: Batch) -> None:
        batch.version += 1
        steps = batch.next_step - batch.base_step
        took_s = batch.prefill_s + self.costs.steps(batch.live, batch.shortest + batch.base_step, steps)
        self._clock.at(batch.base_s + took_s, self._part_over, batch, batch.version)

    def _end_part_early(self, batch: Batch) -> None:
        """Ends the part that runs with the step that runs."""
        so_far_s = self._clock.now - batch.base_s - batch.prefill_s
        low, high = batch.base_step + 1, batch.next_step
        while low < high:
            middle = (low + high) // 2
            took_s = self.costs.steps(batch.live, batch.shortest + batch.base_step, middle - batch.base_step)
            if took_s >= so_far_s:
                high = middle
            else:
                low = middle + 1
        batch.next_step = low
        self._enter(batch)

    def _part_over(self, batch: Batch, version: int) -> None:
        if version != batch.version or batch.state is not State.RUNNING:
            return
        now, step = self._clock.now, batch.next_step
        self.busy_s += now - batch.base_s
        batch.base_step = step
        told, ended = self._reach(batch, step, now)
        batch.live = sum(not entry.gone for entry in batch.entries)
        if not batch.live:
            self._leave_slot(batch, State.OVER)
            self.lanes[batch.lane] = None
        elif batch.pausing:
            batch.pausing = False
            told = [entry for entry in batch.entries if not entry.gone and entry.first_step <= step] + ended
            self._leave_slot(batch, State.PAUSED)
        else:
            self._plan(batch)
        self._tell(batch, told, ended)

    def _reach(self, batch: Batch, step: int, now: float) -> tuple[list[Entry], list[Entry]]:
        """The marks of `step`: those with tokens to tell of, and those that end."""
        told: list[Entry] = []
        ended: list[Entry] = []
        marks = batch.marks
        while marks and marks[-1][0] <= step:
            _, kind, index = marks.pop()
            entry = batch.entries[index]
            if entry.gone:
                continue
            if kind == _FIRST:
                entry.life.first_s = min(entry.life.first_s, now)
            if not told or told[-1] is not entry:
                told.append(entry)
            if kind == _END:
                entry.gone = True
                entry.life.last_s = now
                ended.append(entry)
        return told, ended

    def _leave_slot(self, batch: Batch, state: State) -> None:
        batch.state = state
        self._running -= 1
        self._fill_slots()

    def _over(self, batch: Batch, _version: int) -> None:
        """All its entries were stopped while it did not run."""
        if batch.state is State.READY and batch in self._ready:
            self._ready.remove(batch)
        batch.state = State.OVER
        self.lanes[batch.lane] = None
        self._hearer.freed(self, batch)

    def _tell(self, batch: Batch, told: list[Entry], ended: list[Entry]) -> None:
        hearer, step = self._hearer, batch.base_step
        for entry in told:
            if (tokens := min(step, entry.last_step) - entry.told_step) > 0:
                entry.told_step += tokens
                hearer.progressed(entry, tokens)
        for entry in ended:
            hearer.ended(entry)
        if batch.state is State.OVER:
            hearer.freed(self, batch)
