"""Demand, against what it says of itself: target - waiting here - still to come, within what may be held."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace.router.core.demand import Demand

MAX_HELD = 12
LOOKAHEAD = 2
QUEUES = st.sampled_from("abcd")


class DemandMachine(RuleBasedStateMachine):
    """Queues are seen and forgotten, messages come, wait and leave."""

    def __init__(self) -> None:
        super().__init__()
        self.demand = Demand(max_held=MAX_HELD, lookahead=LOOKAHEAD)
        self.room = 3
        self.coming: dict[str, int] = {}
        """By queue that is seen."""
        self.waiting = dict.fromkeys("abcd", 0)
        self.settling = 0

    def held(self) -> int:
        return sum(self.waiting.values()) + self.settling

    @rule(queue=QUEUES)
    def see(self, queue: str) -> None:
        self.demand.see(queue, "m")
        self.coming.setdefault(queue, 0)

    @rule(queue=QUEUES)
    def forget(self, queue: str) -> None:
        self.demand.forget(queue)
        self.coming.pop(queue, None)

    @rule(queue=QUEUES, count=st.integers(1, 3))
    def lapse(self, queue: str, count: int) -> None:
        self.demand.arrived(queue, count)
        if queue in self.coming:
            self.coming[queue] = max(0, self.coming[queue] - count)

    @rule(queue=QUEUES)
    def arrive(self, queue: str) -> None:
        if self.coming.get(queue, 0):
            self.coming[queue] -= 1
            self.demand.arrived(queue)
            self.waiting[queue] += 1
            self.demand.waits(queue, +1)

    @rule(queue=QUEUES, settles=st.booleans())
    def leave(self, queue: str, settles: bool) -> None:
        if self.waiting[queue]:
            self.waiting[queue] -= 1
            self.demand.waits(queue, -1)
            self.settling += settles

    @precondition(lambda self: self.settling)
    @rule()
    def settle(self) -> None:
        self.settling -= 1

    @rule(room=st.integers(0, 5))
    def lanes_change(self, room: int) -> None:
        self.room = room
        self.demand.all_changed()

    @invariant()
    def all_that_may_be_asked_for_is(self) -> None:
        """Pulls as the scheduler does; then no queue is above its target, and none below it while there is room."""
        target = self.room + LOOKAHEAD if self.room else 0
        for queue, model in self.demand.changed(self.held()):
            assert model == "m"
            count = self.demand.pull(queue, self.room, self.held())
            self.coming[queue] += count
            assert count == 0 or self.coming[queue] + self.waiting[queue] <= target
        total = self.held() + sum(self.coming.values())
        assert total <= MAX_HELD
        if total < MAX_HELD:
            for queue, coming in self.coming.items():
                assert coming + self.waiting[queue] >= target


DemandMachine.TestCase.settings = settings(
    max_examples=80, stateful_step_count=30, derandomize=True, deadline=None
)
TestDemand = DemandMachine.TestCase


def test_nothing_is_kept_of_queues_that_are_gone() -> None:
    """Once their requests have left."""
    demand = Demand(max_held=9, lookahead=1)
    demand.see("q", "m")
    assert demand.pull("q", 1, 0) == 2
    demand.waits("q", +1)
    demand.forget("q")
    demand.waits("q", -1)
    assert repr(demand) == repr(Demand(max_held=9, lookahead=1))


def test_what_can_only_be_refused_is_pulled_one_by_one() -> None:
    """While the router has room for it."""
    demand = Demand(max_held=2, lookahead=9)
    demand.see("q", None)
    assert list(demand.changed(0)) == [("q", None)]
    assert [demand.pull_to_refuse("q", 0), demand.pull_to_refuse("q", 0)] == [1, 0]
    demand.arrived("q")
    assert list(demand.changed(2)) == [], "full"
    assert list(demand.changed(1)) == [("q", None)], "and asked again when it is not"


def test_idle_queues_leave_room_for_those_that_are_not() -> None:
    """Each may have an equal share of what the router holds on its way, so that all are asked at once."""
    demand = Demand(max_held=100, lookahead=32)
    for number in range(25):
        demand.see(f"q{number}", "m")
    pulled = [demand.pull(queue, 8, 0) for queue, _ in list(demand.changed(0))]
    assert pulled == [4] * 25
    demand.arrived("q7", 4)
    assert list(demand.changed(0)) == [("q7", "m")]
    assert demand.pull("q7", 8, 4) == 0, "the router holds four of its hundred now"
    assert list(demand.changed(0)) == [("q7", "m")], "and asks again when it does not"
    assert demand.pull("q7", 8, 0) == 4
