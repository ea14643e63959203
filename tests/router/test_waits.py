"""What a trace is told of a wait: who was started before, and whether there was a lane."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from headrace.contract.values import Priority
from headrace.router import waits
from headrace.router.core.scheduler import Load
from headrace.router.waits import Waits
from headrace.runtime import trace_names as names


class Watched:
    """Waits on a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0
        load = Load(waiting=(0, 0, 0, 0), seconds_per_request=0.0, lanes=2, free_lanes=0)
        self.waits = Waits(lambda model: load, lambda: self.now)

    def start(self, at_s: float, priority: Priority, tenant: str = "t") -> None:
        self.now = at_s
        self.waits.started(record(priority, tenant))


def record(
    priority: Priority = Priority.NORMAL, tenant: str = "t", asked: str = "m", answers: str = ""
) -> Any:
    return SimpleNamespace(
        request=SimpleNamespace(model=asked, priority=priority),
        model=answers,
        message=SimpleNamespace(subject=f"hr.v1.req.{asked}.{priority.label}.{tenant}"),
    )


def test_starts_since_then_are_counted_by_class_and_for_the_own_queue() -> None:
    """Those before it began to wait are not."""
    watched = Watched()
    watched.start(101, Priority.NORMAL)
    watched.start(103, Priority.NORMAL)
    watched.start(104, Priority.NORMAL, tenant="other")
    watched.start(105, Priority.REALTIME)
    found = watched.waits.facts(record(), 102)
    assert found[names.WAIT_AHEAD] == [1, 0, 2, 0]
    assert found[names.WAIT_AHEAD_QUEUE] == 1
    assert found[names.WAIT_LANES] == 2


def test_the_time_without_a_lane_is_what_lies_within_the_wait() -> None:
    """From the router's start until the first worker, and again from its loss until the next; a wait that goes on
    counts until now.
    """
    watched = Watched()
    watched.now = 104
    watched.waits.loaded({"m": 3.0})
    watched.waits.fleet(frozenset({"m"}))
    watched.now = 110
    watched.waits.fleet(frozenset())
    watched.now = 112
    assert watched.waits.facts(record(), 103)[names.WAIT_NO_LANES_S] == 3.0
    watched.waits.fleet(frozenset({"m"}))
    watched.now = 120
    found = watched.waits.facts(record(), 103)
    assert (found[names.WAIT_NO_LANES_S], found[names.WAIT_LOAD_S]) == (3.0, 3.0)
    assert names.WAIT_NO_LANES_S not in watched.waits.facts(record(), 113)


def test_who_asked_for_an_alias_waited_for_the_lanes_of_its_version() -> None:
    """No lane is ever the alias's own; those before it are counted by what they asked for."""
    watched = Watched()
    watched.now = 104
    watched.waits.fleet(frozenset({"m"}))
    watched.now = 106
    assert watched.waits.facts(record(asked="chat", answers="m"), 103)[names.WAIT_NO_LANES_S] == 1.0


def test_a_wait_that_is_older_than_the_router_says_so() -> None:
    """Nobody here can tell what it waited for then."""
    watched = Watched()
    assert watched.waits.facts(record(), 90)[names.WAIT_BEFORE_ROUTER_S] == 10.0


def test_what_is_remembered_is_bounded(monkeypatch: Any) -> None:
    """Starts per class and queue, and queues."""
    monkeypatch.setattr(waits, "KEPT_STARTS", 10)
    monkeypatch.setattr(waits, "KEPT_LINES", 3)
    watched = Watched()
    for number in range(100):
        watched.start(101 + number, Priority.NORMAL, tenant=f"t-{number}")
    assert 5 <= sum(watched.waits.facts(record(), 0)[names.WAIT_AHEAD]) <= 10  # type: ignore[arg-type]
    assert watched.waits.facts(record(tenant="t-0"), 0)[names.WAIT_AHEAD_QUEUE] == 0
    assert watched.waits.facts(record(tenant="t-99"), 0)[names.WAIT_AHEAD_QUEUE] == 1
