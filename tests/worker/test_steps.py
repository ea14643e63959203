"""The engine's callbacks become steps."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.worker.steps import Slot, Step, Steps


@dataclass
class Turn:
    """Lets every step through, or says that it waits."""

    goes: bool = True
    waits: int = 0

    def wait(self) -> None:
        self.waits += 1


def slots(*lengths: int, left: int = 10) -> list[Slot]:
    return [Slot(index=index, prompt=range(1, length + 1), left=left) for index, length in enumerate(lengths)]


def test_a_step_is_handed_over_with_its_last_token() -> None:
    """Not a token earlier and not a callback later."""
    seen: list[Step] = []
    steps = Steps(slots(4, 4, 4), seen.append, Turn())
    assert not steps.on_token(0, 70, 0, False)
    assert not steps.on_token(1, 71, 0, False)
    assert seen == []
    assert not steps.on_token(2, 72, 0, False)
    assert seen == [[(0, 70), (1, 71), (2, 72)]]


def test_longer_prompts_join_in_later_steps() -> None:
    """An entry that still catches up is not waited for: a prompt k longer makes its first token in step k."""
    seen: list[Step] = []
    steps = Steps(slots(3, 5, 4), seen.append, Turn())
    steps.on_token(0, 1, 0, False)
    assert seen == [[(0, 1)]]
    steps.on_token(0, 2, 1, False)
    steps.on_token(2, 3, 1, False)
    assert seen[1:] == [[(0, 2), (2, 3)]]
    for index in range(3):
        steps.on_token(index, 4, 2, False)
    assert len(seen) == 3


def test_a_gap_with_no_token_at_all_is_no_trouble() -> None:
    """All short ones may end before a long one begins."""
    seen: list[Step] = []
    steps = Steps(slots(2, 9, left=1), seen.append, Turn())
    assert steps.on_token(0, 1, 0, False)
    assert steps.on_token(1, 2, 7, False)
    assert seen == [[(0, 1)], [(1, 2)]]


def test_entries_end_at_their_own_count() -> None:
    """Each has its own limit; the ended one is not waited for in the next step."""
    seen: list[Step] = []
    pair = slots(3, 3)
    pair[0].left = 1
    steps = Steps(pair, seen.append, Turn())
    assert steps.on_token(0, 1, 0, False)
    assert not steps.on_token(1, 2, 0, False)
    assert not steps.on_token(1, 3, 1, False)
    assert len(seen) == 2


def test_a_halted_entry_ends_and_its_token_is_dropped() -> None:
    """The next callback after the flag ends it; the others' step is handed over as if it were not there."""
    seen: list[Step] = []
    pair = slots(3, 3)
    steps = Steps(pair, seen.append, Turn())
    pair[0].halted = True
    assert steps.on_token(0, 1, 0, False)
    assert not steps.on_token(1, 2, 0, False)
    assert not steps.on_token(1, 3, 1, False)
    assert seen == [[(1, 2)], [(1, 3)]]


def test_an_entry_that_ends_by_itself_is_not_waited_for() -> None:
    """The engine says `last` and never calls for it again."""
    seen: list[Step] = []
    steps = Steps(slots(3, 3), seen.append, Turn())
    assert not steps.on_token(0, 1, 0, True)
    steps.on_token(1, 2, 0, False)
    steps.on_token(1, 3, 1, False)
    assert seen == [[(0, 1), (1, 2)], [(1, 3)]]


def test_what_an_unfinished_step_made_is_not_lost() -> None:
    """Should the engine stop within a step, or leave an entry out, the tokens come all the same."""
    seen: list[Step] = []
    steps = Steps(slots(3, 3), seen.append, Turn())
    steps.on_token(0, 1, 0, False)
    steps.on_token(0, 2, 1, False)
    assert seen == [[(0, 1)]]
    steps.flush()
    assert seen == [[(0, 1)], [(0, 2)]]


def test_a_callback_never_raises() -> None:
    """An exception in it would fail the batch or end the process: it is kept, and the entries end."""

    def broken(step: Step) -> None:
        raise RuntimeError("the loop is closed")

    steps = Steps(slots(3), broken, Turn())
    assert steps.on_token(0, 1, 0, False)
    assert isinstance(steps.error, RuntimeError)


def test_it_waits_for_its_turn_between_two_steps() -> None:
    """When what the step made is handed over: once, and not within a step."""
    seen: list[Step] = []
    turn = Turn(goes=False)
    steps = Steps(slots(3, 3), seen.append, turn)
    steps.on_token(0, 1, 0, False)
    assert turn.waits == 0
    steps.on_token(1, 2, 0, False)
    assert (seen, turn.waits) == ([[(0, 1), (1, 2)]], 1)
    steps.on_token(0, 3, 1, False)
    assert turn.waits == 1


def test_after_the_last_step_there_is_no_turn_to_wait_for() -> None:
    """The lane is free then; while an entry still catches up it is not over."""
    seen: list[Step] = []
    turn = Turn(goes=False)
    steps = Steps(slots(3, 5, left=1), seen.append, turn)
    assert steps.on_token(0, 1, 0, False)
    assert turn.waits == 1
    assert steps.on_token(1, 2, 2, False)
    assert turn.waits == 1


def test_while_it_may_go_nothing_waits() -> None:
    """Each step costs a look at the flag."""
    seen: list[Step] = []
    turn = Turn()
    steps = Steps(slots(3), seen.append, turn)
    for step in range(5):
        steps.on_token(0, 1, step, False)
    assert turn.waits == 0
