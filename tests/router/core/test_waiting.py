"""The waiting list, against one sorted list."""

from __future__ import annotations

from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from headrace.contract.values import GREEDY, Priority, Sampling
from headrace.router.core.fairness import Fairness
from headrace.router.core.grouping import goes_alone, goes_apart
from headrace.router.core.held import SETTLING, Held
from headrace.router.core.order import rank
from headrace.router.core.waiting import WaitingList
from tests.router.core.dialogue import held

AGEING_S = 10.0
HELD = st.builds(
    held,
    request_id=st.uuids().map(str),
    model=st.sampled_from("mn"),
    tenant=st.sampled_from("tu"),
    priority=st.sampled_from(Priority),
    sampling=st.sampled_from([GREEDY, Sampling(temperature=0.5)]),
    prompt_tokens=st.integers(1, 5),
    generated=st.integers(0, 1),
    arrived_s=st.sampled_from([0.0, 1.0, 2.5]),
    deadline_s=st.sampled_from([None, None, 4.0, 40.0]),
    losses=st.integers(0, 3),
)


def waiting_list(slack: float = inf) -> WaitingList:
    return WaitingList(Fairness(slack=slack, weights={}), ageing_s=AGEING_S)


def place(request: Held) -> tuple[int, tuple[float, float, str]]:
    return (request.level, rank(request, AGEING_S))


class WaitingMachine(RuleBasedStateMachine):
    """Additions, removals and time in any order; nobody is ahead of a share."""

    inside: Bundle[Held] = Bundle("inside")

    def __init__(self) -> None:
        super().__init__()
        self.waiting = waiting_list()
        self.inside_now: list[Held] = []
        self.now = 0.0

    @rule(target=inside, request=HELD)
    def add(self, request: Held) -> Held:
        self.waiting.add(request)
        self.inside_now.append(request)
        self.waiting.promote(self.now)
        return request

    @rule(request=consumes(inside))
    def remove(self, request: Held) -> None:
        self.waiting.remove(request)
        request.state = SETTLING
        self.inside_now.remove(request)

    @rule(seconds=st.sampled_from([0.5, 4.0, 12.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.waiting.promote(self.now)

    @invariant()
    def each_has_the_class_of_its_age(self) -> None:
        for request in self.inside_now:
            age_s = max(0.0, self.now - request.arrived_s)
            assert request.level == max(0, request.priority - int(age_s // AGEING_S))

    @invariant()
    def it_is_the_sorted_list(self) -> None:
        assert len(self.waiting) == len(self.inside_now)
        lines: dict[tuple[str, bool], list[Held]] = {}
        for request in sorted(self.inside_now, key=place):
            lines.setdefault((request.model, goes_apart(request)), []).append(request)
        assert dict(self.waiting.heads()) == {line: those[0] for line, those in lines.items()}
        for line, those in lines.items():
            assert list(self.waiting.in_order(line)) == those
            for index, request in enumerate(those):
                assert self.waiting.ahead(request)[0] == index
        for model in "mn":
            assert self.waiting.count(model) == tuple(
                sum(r.model == model and r.priority is priority for r in self.inside_now)
                for priority in Priority
            )

    @invariant()
    def companions_are_those_that_may_share_the_nearest_first(self) -> None:
        for request in self.inside_now:
            alike = [
                other
                for other in self.inside_now
                if (other.model, other.level, other.sampling)
                == (request.model, request.level, request.sampling)
                and not goes_alone(other)
                and other is not request
            ]
            found = list(self.waiting.companions(request))
            expected = [] if goes_alone(request) else alike
            assert sorted(map(id, found)) == sorted(map(id, expected))
            distances = [abs(other.context - request.context) for other in found]
            assert distances == sorted(distances)
            assert self.waiting.alike(request) == len(expected) + 1


WaitingMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, derandomize=True, deadline=None
)
TestWaitingList = WaitingMachine.TestCase


def test_nothing_waits_for_an_unknown_model() -> None:
    """Nor is it kept as one that was asked for."""
    waiting = waiting_list()
    assert waiting.count("m") == (0, 0, 0, 0)
    assert waiting.head(("m", False)) is None
    assert waiting.heads() == []


@settings(derandomize=True)
@given(st.lists(HELD, max_size=8))
def test_an_emptied_list_is_as_a_new_one(requests: list[Held]) -> None:
    """No line is left behind for a sampling or a tenant that nobody asks for any more."""
    waiting = waiting_list()
    for request in requests:
        waiting.add(request)
    for request in requests:
        waiting.remove(request)
    assert (len(waiting), list(waiting), waiting.heads(), waiting._lines) == (0, [], [], {})


def test_the_ages_of_those_that_left_are_swept() -> None:
    """Else a busy router would keep each request until it had aged."""
    waiting = waiting_list()
    for number in range(1_000):
        request = held(str(number))
        waiting.add(request)
        waiting.remove(request)
        request.state = SETTLING
    assert len(waiting._ages) < 100


def test_a_tenant_that_is_ahead_of_its_share_goes_last_in_its_class() -> None:
    """However old its requests are; a more urgent class still goes first."""
    fairness = Fairness(slack=0.0, weights={})
    waiting = WaitingList(fairness, ageing_s=inf)
    greedy, modest = held("a", tenant="greedy", arrived_s=0.0), held("b", tenant="modest", arrived_s=5.0)
    urgent = held("c", tenant="greedy", priority=Priority.HIGH, arrived_s=9.0)
    for request in (greedy, modest, urgent):
        waiting.add(request)
    fairness.charge(("m", Priority.NORMAL), "greedy", 10.0)
    assert list(waiting.in_order(("m", False))) == [urgent, modest, greedy]
    waiting.remove(urgent)
    assert waiting.head(("m", False)) is modest
