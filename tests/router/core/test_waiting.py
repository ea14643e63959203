"""The waiting list, against one sorted list."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from headrace.contract.values import GREEDY, Priority, Sampling
from headrace.router.core.grouping import goes_apart
from headrace.router.core.held import Held
from headrace.router.core.order import rank
from headrace.router.core.waiting import WaitingList, batch_key
from tests.router.core.dialogue import held

HELD = st.builds(
    held,
    request_id=st.uuids().map(str),
    model=st.sampled_from("mn"),
    priority=st.sampled_from(Priority),
    sampling=st.sampled_from([GREEDY, Sampling(temperature=0.5)]),
    prompt_tokens=st.integers(1, 3),
    generated=st.integers(0, 1),
    arrived_s=st.sampled_from([0.0, 1.0, 2.5]),
    losses=st.integers(0, 3),
)


class WaitingMachine(RuleBasedStateMachine):
    """Additions and removals in any order."""

    inside: Bundle[Held] = Bundle("inside")

    def __init__(self) -> None:
        super().__init__()
        self.waiting = WaitingList()
        self.model: list[Held] = []

    @rule(target=inside, request=HELD)
    def add(self, request: Held) -> Held:
        self.waiting.add(request)
        self.model = sorted([*self.model, request], key=rank)
        return request

    @rule(request=consumes(inside))
    def remove(self, request: Held) -> None:
        self.waiting.remove(request)
        self.model.remove(request)

    @invariant()
    def it_is_the_sorted_list(self) -> None:
        assert len(self.waiting) == len(self.model)
        assert sorted(self.waiting, key=rank) == self.model
        firsts: dict[tuple[str, bool], Held] = {}
        for request in self.model:
            firsts.setdefault((request.model, goes_apart(request)), request)
        assert dict(self.waiting.heads()) == firsts
        for model in "mn":
            of_model = [request for request in self.model if request.model == model]
            assert self.waiting.count(model) == tuple(
                sum(request.priority is priority for request in of_model) for priority in Priority
            )

    @invariant()
    def compatible_are_those_of_one_key_in_order(self) -> None:
        for request in self.model:
            alike = [other for other in self.model if batch_key(other) == batch_key(request)]
            assert list(self.waiting.compatible(request)) == alike


WaitingMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, derandomize=True, deadline=None
)
TestWaitingList = WaitingMachine.TestCase


def test_nothing_waits_for_an_unknown_model() -> None:
    """Nor is it kept as one that was asked for."""
    waiting = WaitingList()
    assert waiting.count("m") == (0, 0, 0, 0)
    assert list(waiting.compatible(held())) == []
    assert waiting.heads() == []


@settings(derandomize=True)
@given(st.lists(HELD, max_size=8))
def test_an_emptied_list_is_as_a_new_one(requests: list[Held]) -> None:
    """No line is left behind for a length or a sampling that nobody asks for any more."""
    waiting = WaitingList()
    for request in requests:
        waiting.add(request)
    for request in requests:
        waiting.remove(request)
    assert (len(waiting), list(waiting), waiting.heads(), waiting._by_key) == (0, [], [], {})
