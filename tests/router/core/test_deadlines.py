"""Deadlines, against a dictionary."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headrace.router.core.deadlines import Deadlines

IDS = st.sampled_from([f"r{index}" for index in range(12)])
TIMES = st.integers(0, 30).map(float)


class DeadlinesMachine(RuleBasedStateMachine):
    """Deadlines come, go, come again under the same id, and pass."""

    def __init__(self) -> None:
        super().__init__()
        self.deadlines = Deadlines()
        self.model: dict[str, float] = {}
        self.timer: float | None = None
        """What the shell would wake at."""

    @rule(request_id=IDS, deadline_s=TIMES)
    def add(self, request_id: str, deadline_s: float) -> None:
        if request_id not in self.model:
            self.deadlines.add(request_id, deadline_s)
            self.model[request_id] = deadline_s

    @rule(request_id=IDS)
    def remove(self, request_id: str) -> None:
        self.deadlines.remove(request_id)
        self.model.pop(request_id, None)

    @rule(now=TIMES)
    def time_passes(self, now: float) -> None:
        due = self.deadlines.pop_due(now)
        assert sorted(due) == sorted(held for held, at_s in self.model.items() if at_s <= now)
        assert [self.model[held] for held in due] == sorted(self.model[held] for held in due)
        for held in due:
            del self.model[held]

    @rule()
    def woke(self) -> None:
        self.deadlines.woke()
        self.timer = None

    @invariant()
    def the_timer_is_never_too_late(self) -> None:
        asked = self.deadlines.next_wake()
        if asked is not None:
            assert self.timer is None or asked < self.timer, "asked for only where it is news"
            assert asked == min(self.model.values())
            self.timer = asked
        if self.model:
            assert self.timer is not None
            assert self.timer <= min(self.model.values())

    @invariant()
    def only_what_is_held_is_kept(self) -> None:
        assert len(self.deadlines) == len(self.model)


DeadlinesMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, derandomize=True, deadline=None
)
TestDeadlines = DeadlinesMachine.TestCase


def test_removed_deadlines_do_not_pile_up_behind_a_held_one() -> None:
    """A request that waits for long keeps the head of the heap; those behind it come and go by the thousand."""
    deadlines = Deadlines()
    deadlines.add("waits", 1.0)
    for index in range(10_000):
        deadlines.add(f"r{index}", 2.0 + index)
        deadlines.remove(f"r{index}")
    assert len(deadlines._heap) < 100
    assert deadlines.pop_due(1e9) == ["waits"]
