"""What is refused because it could not be answered in time."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from headrace.contract.values import OutcomeKind
from headrace.router.core.commands import Settle
from headrace.router.core.events import RequestArrived
from tests.router.core.dialogue import Dialogue, batches, costs, failed, groups, joined, made, request

WITHIN_A_SECOND = (inf, inf, 1.0, inf)


def long(name: str, **changes: Any) -> RequestArrived:
    """It takes a lane for 1.2 s and a little."""
    return request(name, max_tokens=100, **{"sampling": request().sampling, **changes})


def a_mesh(**settings: Any) -> Dialogue:
    return Dialogue(joined(max_batch=1, cost=costs()), **settings)


def refused(commands: list[Any]) -> list[str]:
    return [
        command.request_id
        for command in commands
        if isinstance(command, Settle) and command.kind is OutcomeKind.REJECTED
    ]


def test_one_whose_first_token_would_come_too_late_is_refused_at_once() -> None:
    """With the reason, and a time to try again."""
    mesh = a_mesh(first_token_s=WITHIN_A_SECOND)
    mesh.start(long("running"))
    (settle,) = (c for c in mesh.tell(long("late")) if isinstance(c, Settle))
    assert (settle.request_id, settle.kind) == ("late", OutcomeKind.REJECTED)
    assert settle.failure is not None
    assert settle.failure.code == "OVERLOADED"
    assert 0.1 <= settle.failure.retry_after_s < 1.0


def test_without_an_objective_or_a_deadline_nothing_is_refused() -> None:
    """It waits as long as it takes."""
    mesh = a_mesh()
    mesh.start(long("running"))
    assert refused(mesh.tell(*(long(str(number)) for number in range(50)))) == []


def test_a_deadline_that_cannot_be_met_is_told_at_once() -> None:
    """Rather than when it has passed."""
    mesh = a_mesh()
    mesh.start(long("running"))
    assert refused(mesh.tell(long("late", deadline_s=0.5))) == ["late"]
    assert refused(mesh.tell(long("fine", deadline_s=5.0))) == []


def test_nothing_is_refused_on_a_guess() -> None:
    """Where nobody has measured what the model costs."""
    mesh = Dialogue(joined(max_batch=1), first_token_s=WITHIN_A_SECOND)
    mesh.start(long("running"))
    assert refused(mesh.tell(*(long(str(number)) for number in range(9)))) == []


def test_what_takes_most_work_is_refused_first() -> None:
    """So that more are answered; the first in the queue is not spared for being there."""
    mesh = a_mesh(first_token_s=(inf, inf, 1.5, inf))
    mesh.start(request("running"))
    mesh.tell(long("large"))
    commands = mesh.tell(*(request(f"small{number}") for number in range(3)))
    assert refused(commands) in ([], ["large"])
    assert refused(commands + mesh.tell(*(request(f"more{number}") for number in range(3)))) == ["large"]


def test_what_has_waited_too_long_is_refused_rather_than_begun() -> None:
    """No compute is spent on what is late anyway."""
    mesh = a_mesh(first_token_s=WITHIN_A_SECOND)
    running = mesh.start(request("running"))
    mesh.tell(request("waits"), at=0.1)
    mesh.now = 2.0
    commands = mesh.end(running)
    assert (refused(commands), batches(commands)) == (["waits"], [])


@pytest.mark.parametrize("ran", ["made a token", "ran before", "was elsewhere"])
def test_what_has_run_is_never_refused(ran: str) -> None:
    """However late it is."""
    mesh = Dialogue(joined(max_batch=1, cost=costs()), first_token_s=WITHIN_A_SECOND)
    if ran == "was elsewhere":
        mesh.start(request("other"))
        assert refused(mesh.tell(request("r", generated=3, attempts=1), at=9.0)) == []
        return
    start = mesh.start(request("r"))
    if ran == "made a token":
        mesh.tell(made(start.assignments[0], 0))
    mesh.tell(failed(start.assignments[0]), at=9.0)
    assert groups(mesh.end(start)) == [["r"]]


def test_the_place_in_the_queue_is_told_with_the_wait() -> None:
    """How many go before it, and when its turn is by what they cost."""
    mesh = a_mesh()
    mesh.start(long("running"))
    mesh.tell(long("a"), long("b"))
    first, second = (mesh.scheduler.place(name, 0.0) for name in "ab")
    assert (first.ahead, second.ahead) == (0, 1)
    assert first.estimated_wait_s is not None
    assert second.estimated_wait_s is not None
    assert 0.5 < first.estimated_wait_s < second.estimated_wait_s
    assert mesh.scheduler.place("running", 0.0).estimated_wait_s == 0.0
    assert mesh.scheduler.place("nobody", 0.0).ahead == 0
