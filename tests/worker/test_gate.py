"""Who may run: batches at the gate, each in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from headrace.worker.gate import Gate, Turn

NEVER_S = 3600.0
SOON_S = 0.01


class Batch:
    """Makes steps in a thread of its own, and waits for its turn before each."""

    def __init__(self, gate: Gate) -> None:
        self.turn: Turn = gate.turn()
        self.steps = 0
        self._changed = threading.Condition()
        self._ends = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        self._ends = True
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()

    def made(self, steps: int) -> None:
        """Waits until it has made so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.steps >= steps, timeout=30)

    def stands(self, gate: Gate, wanted: int) -> None:
        """Waits until it stands at the gate, being the `wanted`th there that wants a permit."""
        give_up_s = time.monotonic() + 30
        while f"{wanted} batches wait" not in repr(gate):
            assert time.monotonic() < give_up_s
            time.sleep(0.001)

    def _run(self) -> None:
        self.turn.wait()
        while not self._ends:
            time.sleep(0.001)  # what a step takes
            with self._changed:
                self.steps += 1
                self._changed.notify_all()
            if not self.turn.goes:
                self.turn.wait()
        self.turn.leave()


@contextmanager
def batches(gate: Gate, count: int) -> Iterator[list[Batch]]:
    """Come one after another, so that the order at the gate is theirs."""
    running: list[Batch] = []
    try:
        for _ in range(count):
            running.append(Batch(gate))
            if len(running) == 1:
                running[0].made(1)
            else:
                running[-1].stands(gate, len(running) - 1)
        yield running
    finally:
        for batch in running:
            batch.turn.release()
        for batch in running:
            batch.end()


def free(gate: Gate) -> int:
    return int(repr(gate).split()[1])


def test_as_many_run_as_there_are_slots() -> None:
    """One more begins when one of them leaves, in the order of coming."""
    gate = Gate(1, paused_step_s=NEVER_S)
    with batches(gate, 3) as (first, second, third):
        assert (second.steps, third.steps) == (0, 0)
        first.end()
        second.made(1)
        assert third.steps == 0
        second.end()
        third.made(1)
    assert free(gate) == 1


def test_a_paused_batch_makes_room_and_goes_on_when_there_is_room() -> None:
    """It does not go on at the word, but with a permit."""
    gate = Gate(1, paused_step_s=NEVER_S)
    with batches(gate, 2) as (first, second):
        first.turn.pause()
        second.made(1)
        stood = first.steps
        first.turn.resume()
        assert not first.turn.goes
        second.turn.pause()
        first.made(stood + 1)
    assert free(gate) == 1


def test_of_those_that_are_resumed_the_first_goes_first() -> None:
    """Whenever their threads awake."""
    gate = Gate(1, paused_step_s=NEVER_S)
    turns = [gate.turn() for _ in range(3)]
    turns[0].wait()
    threads = [threading.Thread(target=turn.wait) for turn in turns[1:]]
    for turn in turns[1:]:
        turn.pause()
    for thread in threads:
        thread.start()
    for turn in reversed(turns[1:]):
        turn.resume()
    for turn, thread in zip(reversed(turns), reversed(threads), strict=False):
        turns[0].leave()
        thread.join(timeout=30)
        assert turn.goes
        turn.leave()
    assert free(gate) == 1


def test_a_batch_that_is_paused_before_it_begins_does_not_begin() -> None:
    """Though a slot is free; not even for the step that shows that it lives: that would be its whole prefill."""
    gate = Gate(1, paused_step_s=SOON_S)
    turn = gate.turn()
    turn.pause()
    begun = threading.Event()

    def begin() -> None:
        turn.wait()
        begun.set()

    thread = threading.Thread(target=begin)
    thread.start()
    assert not begun.wait(20 * SOON_S)
    turn.resume()
    assert begun.wait(30)
    thread.join()
    assert free(gate) == 0
    turn.leave()
    assert free(gate) == 1


def test_a_paused_batch_makes_a_step_now_and_then() -> None:
    """Without a permit: that is another's meanwhile, and stays so."""
    gate = Gate(1, paused_step_s=SOON_S)
    with batches(gate, 2) as (first, second):
        first.turn.pause()
        second.made(1)
        stood = first.steps
        first.made(stood + 3)
        assert second.turn.goes
        first.turn.resume()
        assert not first.turn.goes
        first.made(first.steps + 3)  # while it waits for a permit, too
    assert free(gate) == 1


def test_a_paused_batch_takes_no_cpu() -> None:
    """It waits for a word, and asks for none."""
    gate = Gate(1, paused_step_s=NEVER_S)
    used_s: list[float] = []
    turn = gate.turn()

    def stand() -> None:
        turn.wait()
        turn.pause()
        before_s = time.thread_time()
        turn.wait()
        used_s.append(time.thread_time() - before_s)

    thread = threading.Thread(target=stand)
    thread.start()
    thread.join(timeout=0.5)
    assert thread.is_alive()
    turn.resume()
    thread.join(timeout=30)
    assert used_s[0] < 0.05
    turn.leave()


@pytest.mark.parametrize("paused", [True, False], ids=["paused", "waiting for a permit"])
def test_a_released_batch_waits_for_nothing(paused: bool) -> None:
    """It has nothing left to do but to end; what it is told after that changes nothing."""
    gate = Gate(1, paused_step_s=NEVER_S)
    first, second = gate.turn(), gate.turn()
    first.wait()
    if paused:
        second.pause()
    thread = threading.Thread(target=second.wait)
    thread.start()
    second.release()
    thread.join(timeout=30)
    assert not thread.is_alive()
    second.pause()
    second.wait()
    second.resume()
    second.wait()
    second.leave()
    assert free(gate) == 0
    first.leave()
    assert free(gate) == 1


def test_whatever_is_told_no_permit_is_lost_or_made() -> None:
    """Pauses and resumes at every moment, and a batch that ends in between: as many permits as slots remain."""
    gate = Gate(2, paused_step_s=0.0005)
    stop = threading.Event()
    inside, most = [0], [0]
    lock = threading.Lock()

    def run() -> None:
        while not stop.is_set():
            turn = gate.turn()
            told.append(turn)
            turn.wait()
            for _ in range(20):
                if turn.goes and not stop.is_set():  # those that are released at the end are not counted
                    with lock:
                        inside[0] += 1
                        most[0] = max(most[0], inside[0])
                    time.sleep(0)
                    with lock:
                        inside[0] -= 1
                else:
                    turn.wait()
            turn.leave()

    told: list[Turn] = []
    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for number in range(2000):
        for turn in told[-6:]:
            (turn.pause if number % 3 else turn.resume)()
    stop.set()
    for turn in list(told):
        turn.release()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert "2 slots free, 0 batches" in repr(gate)
    assert most[0] <= 2
