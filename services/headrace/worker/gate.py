"""The gate between the lanes and the engine: of all batches that lanes hold, as many run as there are slots."""

from __future__ import annotations

import threading
import time


class Gate:
    """`slots` permits, and who has them. A batch holds one while it runs, and gives it back while it is paused.

    Whoever wants a permit gets it in the order of asking. Used by the event loop and by all lanes' threads: `_lock`
    guards everything here and in the turns but `Turn.goes`, and is never held while anything is waited for or computed.
    Invariant: a free permit is wanted by nobody.
    """

    def __init__(self, slots: int, *, paused_step_s: float) -> None:
        """`paused_step_s`: how long a paused batch stands still before it makes one step."""
        self._lock = threading.Lock()
        self._free = slots
        self._wanted: dict[Turn, None] = {}  # in the order of asking
        self._paused_step_s = paused_step_s

    def __repr__(self) -> str:
        return f"<Gate: {self._free} slots free, {len(self._wanted)} batches wait for one>"

    def turn(self) -> Turn:
        """For one batch."""
        return Turn(self, self._lock, self._wanted, self._paused_step_s)

    def _ask(self, turn: Turn) -> None:
        self._wanted[turn] = None
        self._hand_out()

    def _give_back(self) -> None:
        self._free += 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free and self._wanted:
            turn = next(iter(self._wanted))
            del self._wanted[turn]
            self._free -= 1
            turn._granted()


class Turn:
    """One batch at the gate, from before it begins until `leave`.

    Its lane's thread calls `wait` and `leave`; the event loop calls `pause`, `resume` and `release`, in any order, as
    often as it likes, and after the end too.
    """

    def __init__(
        self, gate: Gate, lock: threading.Lock, wanted: dict[Turn, None], paused_step_s: float
    ) -> None:
        self.goes = False
        """Whether the batch may make its next step at once: all that is read in each step, and without the lock."""
        self._gate = gate
        self._changed = threading.Condition(lock)
        self._wanted = wanted
        self._paused_step_s = paused_step_s
        self._arrived = False  # at the gate, for the first time
        self._begun = False
        self._holds = False  # a permit
        self._paused = False
        self._released = False

    def __repr__(self) -> str:
        state = "released" if self._released else "paused" if self._paused else "not paused"
        return f"<Turn: {state}, {'with' if self._holds else 'without'} a permit>"

    @property
    def paused(self) -> bool:
        """Whether it is to stand still."""
        return self._paused and not self._released

    def pause(self) -> None:
        """The batch stops at its next step, or does not begin, and its permit is another's."""
        with self._changed:
            self._paused = True
            self._wanted.pop(self, None)
            self._told()

    def resume(self) -> None:
        """The batch goes on, as soon as there is a permit."""
        with self._changed:
            self._paused = False
            if self._arrived and not self._released:
                self._want()  # now, not when the thread awakes: the router's order counts
            self._told()

    def release(self) -> None:
        """The batch is to end: it goes on to its next step, with or without a permit, and never waits again."""
        with self._changed:
            self._released = True
            self._wanted.pop(self, None)
            self._told()

    def wait(self) -> None:
        """Gives the permit back where the batch is paused, and returns when it may run: with a permit, or released.

        A batch that has begun is let through now and then without: for one step, each time that it has stood still
        for `paused_step_s`. So whoever watches it sees that it lives. That is counted from when it stopped: where a
        step takes longer than that, it would otherwise never stand still.
        """
        with self._changed:
            self._arrived = True
            due_s = time.monotonic() + self._paused_step_s
            while not self._may_go():
                left_s = due_s - time.monotonic() if self._begun else None
                if left_s is not None and left_s <= 0:
                    return
                self._changed.wait(left_s)
            self._begun = True

    def leave(self) -> None:
        """The batch needs the engine no more."""
        with self._changed:
            self._released = True
            self._wanted.pop(self, None)
            if self._holds:
                self._holds = False
                self._gate._give_back()

    def _may_go(self) -> bool:
        if self._released:
            return True
        if self._paused:
            if self._holds:
                self._holds = False
                self._gate._give_back()
            return False
        self._want()
        return self._holds

    def _want(self) -> None:
        if not self._holds and self not in self._wanted:
            self._gate._ask(self)  # which may grant it at once

    def _granted(self) -> None:
        """Called by the gate, with the lock."""
        self._holds = True
        self._told()

    def _told(self) -> None:
        self.goes = self._released or (self._holds and not self._paused)
        self._changed.notify_all()
