"""Ends from outside: cancellations and deadlines."""

from __future__ import annotations

import pytest

from headrace.contract.errors import DeadlinePassed
from headrace.contract.values import Failure, OutcomeKind
from headrace.router.core.commands import Settle, Start, Stop, WakeAt
from headrace.router.core.events import CancelAsked, Settled, Woke
from tests.router.core.dialogue import Dialogue, completed, ended, groups, joined, made, request


def cancel(
    request_id: str = "r", tenant: str = "t", kind: OutcomeKind = OutcomeKind.CANCELLED
) -> CancelAsked:
    return CancelAsked(tenant=tenant, request_id=request_id, kind=kind)


def expired(request_id: str = "r", *, late_s: float = 0.0) -> Settle:
    failure = Failure(code="DEADLINE_PASSED", message=str(DeadlinePassed(late_s)), field="deadline")
    return Settle(request_id=request_id, kind=OutcomeKind.EXPIRED, failure=failure)


CANCELLED = Settle(request_id="r", kind=OutcomeKind.CANCELLED)


# Cancellation.


def test_a_waiting_request_is_cancelled_at_once() -> None:
    """Its place goes to the next."""
    mesh = Dialogue(request("r"), request("s"))
    assert mesh.tell(cancel()) == [CANCELLED]
    assert groups(mesh.tell(joined())) == [["s"]]


def test_a_running_request_is_stopped_and_settled() -> None:
    """Its entry ends within a step; its late frames are fenced; its lane comes back with the batch's end."""
    mesh = Dialogue(joined())
    batch = mesh.start(request("r"))
    (entry,) = batch.assignments
    assert mesh.tell(cancel()) == [Stop(worker="w", assignment=entry.number), CANCELLED]
    assert mesh.tell(made(entry, 0), completed(entry), request("s")) == []
    assert groups(mesh.tell(ended(batch))) == [["s"]]


def test_a_request_that_is_ending_is_not_cancelled() -> None:
    """It has its outcome already; nor is its end remembered against a later request of the same id."""
    mesh = Dialogue(joined())
    batch = mesh.start(request("r"))
    mesh.tell(completed(batch.assignments[0]))
    assert mesh.tell(cancel(), Settled(request_id="r"), ended(batch)) == []
    assert groups(mesh.tell(request("r"))) == [["r"]]


@pytest.mark.parametrize("kind", [OutcomeKind.CANCELLED, OutcomeKind.EXPIRED])
def test_a_cancellation_that_overtakes_its_request_is_remembered(kind: OutcomeKind) -> None:
    """With its kind, and once: the request is settled as it arrives, and nothing is computed."""
    mesh = Dialogue(joined())
    assert mesh.tell(cancel(kind=kind)) == []
    assert mesh.tell(request("r")) == [Settle(request_id="r", kind=kind)]
    assert groups(mesh.tell(Settled(request_id="r"), request("r"))) == [["r"]]


def test_only_so_many_cancellations_are_remembered() -> None:
    """The oldest is forgotten: its request is computed, for its outcome is there already."""
    mesh = Dialogue(joined(lanes=4), remembered_cancels=2)
    mesh.tell(cancel("a"), cancel("b"), cancel("a"), cancel("c"))
    answers = mesh.tell(*(request(name) for name in "abc"))
    assert groups(answers) == [["a"]]
    assert [c.request_id for c in answers if isinstance(c, Settle)] == ["b", "c"]


@pytest.mark.parametrize("lanes", [0, 1], ids=["waiting", "running"])
def test_another_tenant_cannot_cancel_it(lanes: int) -> None:
    """The same id of another tenant is another request: this one goes on, that one is remembered."""
    mesh = Dialogue(*(joined() for _ in range(lanes)), request("r"))
    assert mesh.tell(cancel(tenant="other")) == []
    assert mesh.tell(cancel())[-1] == CANCELLED
    mesh.tell(Settled(request_id="r"))
    assert mesh.tell(request("r", tenant="other")) == [CANCELLED]


# Deadlines.


def test_a_request_that_comes_too_late_is_expired() -> None:
    """At its deadline is too late."""
    mesh = Dialogue(joined())
    assert mesh.tell(request("r", deadline_s=5.0), at=7.5) == [expired(late_s=2.5)]
    assert mesh.tell(request("s", deadline_s=7.5)) == [expired("s")]


def test_a_waiting_request_expires_when_the_shell_wakes() -> None:
    """It asked to be woken at that time."""
    mesh = Dialogue()
    assert mesh.tell(request("r", deadline_s=5.0)) == [WakeAt(at_s=5.0)]
    assert mesh.tell(Woke(), at=5.0) == [expired()]
    assert mesh.tell(joined(), Settled(request_id="r"), Woke()) == []


def test_a_running_request_is_stopped_at_its_deadline() -> None:
    """As by a cancellation."""
    mesh = Dialogue(joined())
    start, wake = mesh.tell(request("r", deadline_s=5.0))
    assert isinstance(start, Start)
    assert wake == WakeAt(at_s=5.0)
    stop = Stop(worker="w", assignment=start.assignments[0].number)
    assert mesh.tell(Woke(), at=5.25) == [stop, expired(late_s=0.25)]


def test_the_shell_is_asked_again_only_for_an_earlier_deadline() -> None:
    """One timer, for the next of them; after it, one for the next but one."""
    mesh = Dialogue()
    assert mesh.tell(request("b", deadline_s=5.0)) == [WakeAt(at_s=5.0)]
    assert mesh.tell(request("c", deadline_s=9.0), request("x")) == []
    assert mesh.tell(request("a", deadline_s=2.0)) == [WakeAt(at_s=2.0)]
    assert mesh.tell(Woke(), at=2.0) == [expired("a"), WakeAt(at_s=5.0)]
    assert mesh.tell(Woke(), at=5.0) == [expired("b"), WakeAt(at_s=9.0)]
    assert mesh.tell(Woke(), at=9.0) == [expired("c")]


def test_a_wake_that_comes_early_is_asked_for_again() -> None:
    """Timers are only so exact."""
    mesh = Dialogue(request("r", deadline_s=5.0))
    assert mesh.tell(Woke(), at=4.999) == [WakeAt(at_s=5.0)]


def test_the_deadline_of_an_ended_request_wakes_nobody_twice() -> None:
    """The timer that stands for it asks for the next one."""
    mesh = Dialogue(request("a", deadline_s=5.0), request("b", deadline_s=9.0))
    assert mesh.tell(cancel("a"), Settled(request_id="a")) == [
        Settle(request_id="a", kind=OutcomeKind.CANCELLED)
    ]
    assert mesh.tell(Woke(), at=5.0) == [WakeAt(at_s=9.0)]


def test_a_request_that_is_ending_does_not_expire() -> None:
    """Its outcome stands, though it is not durable yet."""
    mesh = Dialogue(request("r", deadline_s=5.0))
    mesh.tell(cancel())
    assert mesh.tell(Woke(), at=6.0) == []


def test_nothing_starts_after_its_deadline() -> None:
    """Though a lane frees before the shell's timer was heard: no compute is spent on it."""
    mesh = Dialogue(joined())
    batch = mesh.start(request("running"))
    mesh.tell(completed(batch.assignments[0]), request("late", deadline_s=5.0), request("s"))
    late, start = mesh.tell(ended(batch), at=5.5)
    assert late == expired("late", late_s=0.5)
    assert groups([start]) == [["s"]]
