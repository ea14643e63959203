"""Several routers: what is handed over, taken over, and given to those who have the lanes for it."""

from __future__ import annotations

import pytest

from headrace.contract.values import FinishReason, OutcomeKind
from headrace.router.core.commands import LetGo, Release, Requeued, Settle, Stop
from headrace.router.core.events import (
    CancelAsked,
    DrainBegan,
    Event,
    PeersServe,
    RequestTaken,
    Settled,
    Woke,
    WorkerDraining,
    WorkerLost,
)
from tests.router.core.dialogue import (
    Dialogue,
    completed,
    delivered,
    ended,
    failed,
    groups,
    joined,
    made,
    request,
)

PEERS_SERVE_M = PeersServe(models=frozenset("m"))


def test_a_running_request_that_another_router_took_is_stopped_and_forgotten() -> None:
    """No outcome, no release; what its lane still says of it is late."""
    mesh = Dialogue(joined())
    batch = mesh.start(request("r"))
    (entry,) = batch.assignments
    assert mesh.tell(RequestTaken(request_id="r")) == [
        Stop(worker="w", assignment=entry.number),
        LetGo(request_id="r"),
    ]
    assert mesh.tell(made(entry, 0), completed(entry), ended(batch), Settled(request_id="r")) == []
    assert len(mesh.scheduler) == 0


def test_a_waiting_request_that_another_router_took_is_forgotten() -> None:
    """Its place goes to the next, and it can come again later."""
    mesh = Dialogue(joined(max_batch=1))
    batch = mesh.start(request("a"))
    mesh.tell(request("b"), request("c", deadline_s=9.0))
    assert mesh.tell(RequestTaken(request_id="b")) == [LetGo(request_id="b")]
    assert mesh.tell(RequestTaken(request_id="c")) == [LetGo(request_id="c")]
    mesh.tell(request("b"))
    assert groups(mesh.end(batch)) == [["b"]]
    assert mesh.tell(Woke(), at=9.0) == [], "its deadline is the other router's now"


def test_what_ends_here_keeps_its_end() -> None:
    """The first outcome counts; and nobody took what nobody holds."""
    mesh = Dialogue(joined())
    (entry,) = mesh.start(request("r")).assignments
    mesh.tell(completed(entry))
    assert mesh.tell(RequestTaken(request_id="r"), RequestTaken(request_id="?")) == []
    assert len(mesh.scheduler) == 1


def test_a_request_that_is_taken_over_goes_on_where_it_was() -> None:
    """Its tokens, its attempts and its losses count on."""
    mesh = Dialogue(joined(), max_attempts=3)
    batch = mesh.start(request("r", generated=5, attempts=4, losses=2))
    (entry,) = batch.assignments
    assert entry.attempt == 5
    assert delivered(mesh.tell(made(entry, 5))) == [5]
    (end,) = mesh.tell(failed(entry))
    assert isinstance(end, Settle)
    assert (end.kind, end.dead) == (OutcomeKind.FAILED, True)


def test_a_request_that_was_assigned_elsewhere_keeps_its_deadline() -> None:
    """It is watched from its first wait here."""
    mesh = Dialogue(request("r", attempts=3, deadline_s=5.0))
    (end,) = mesh.tell(Woke(), at=5.0)
    assert isinstance(end, Settle)
    assert end.kind is OutcomeKind.EXPIRED


def test_what_waits_for_a_lane_of_another_router_goes_back_to_its_queue() -> None:
    """As soon as that router has one; in order."""
    mesh = Dialogue(request("b", arrived_s=1.0), request("a"), request("n", model="n"))
    assert mesh.tell(PEERS_SERVE_M) == [Release(request_id="a"), Release(request_id="b")]
    assert mesh.tell(request("c")) == [Release(request_id="c")]


def test_what_a_lane_here_will_take_stays() -> None:
    """However many lanes others have."""
    mesh = Dialogue(joined(max_batch=1), PEERS_SERVE_M, request("a"))
    assert mesh.tell(request("b")) == []


@pytest.mark.parametrize("event", [WorkerLost(worker="w"), WorkerDraining(worker="w")])
def test_when_the_last_lane_here_goes_what_waits_goes_too(event: Event) -> None:
    """What runs on a worker that leaves may end there."""
    mesh = Dialogue(joined(max_batch=1), PEERS_SERVE_M)
    mesh.start(request("a"))
    mesh.tell(request("b"))
    released = [command for command in mesh.tell(event) if isinstance(command, Release)]
    assert Release(request_id="b") in released


def test_what_a_lost_worker_ran_goes_to_the_router_that_has_another() -> None:
    """With the loss."""
    mesh = Dialogue(joined(), PEERS_SERVE_M)
    mesh.start(request("a"))
    assert mesh.tell(WorkerLost(worker="w")) == [
        Requeued(request_id="a", reason="its worker was lost"),
        Release(request_id="a", losses=1),
    ]


def test_it_stays_where_nobody_else_serves_its_model_either() -> None:
    """Nor any more: what others had does not count."""
    mesh = Dialogue(PEERS_SERVE_M, PeersServe(models=frozenset("n")))
    assert mesh.tell(request("a")) == []
    assert groups(mesh.tell(joined())) == [["a"]]


def test_a_cancelled_request_is_ended_rather_than_given_away() -> None:
    """An answer is an answer."""
    mesh = Dialogue(PEERS_SERVE_M, CancelAsked(tenant="t", request_id="r"))
    assert mesh.tell(request("r")) == [Settle(request_id="r", kind=OutcomeKind.CANCELLED)]
    assert mesh.tell(request("s", generated=20)) == [
        Settle(request_id="s", kind=OutcomeKind.COMPLETED, finish_reason=FinishReason.LENGTH)
    ]


def test_a_router_says_what_it_serves() -> None:
    """The models of lanes that take something new."""
    mesh = Dialogue(joined("w", models="mn"), joined("v", models="o"))
    assert mesh.scheduler.served() == frozenset("mno")
    mesh.tell(WorkerDraining(worker="v"))
    assert mesh.scheduler.served() == frozenset("mn")
    mesh.tell(WorkerLost(worker="w"))
    assert mesh.scheduler.served() == frozenset()
    mesh.tell(joined("u"), DrainBegan())
    assert mesh.scheduler.served() == frozenset(), "a router that leaves takes nothing"
