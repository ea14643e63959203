"""Models that come to workers and go from them while they run."""

from __future__ import annotations

from headrace.router.core.commands import Pull, Release
from headrace.router.core.events import (
    ModelCame,
    ModelsComing,
    ModelsKnown,
    ModelWent,
    PeersServe,
    QueueSeen,
    WorkerLost,
)
from tests.router.core.dialogue import Dialogue, batches, completed, costs, ended, held, joined, request

KNOWN = ModelsKnown(models=frozenset("mn"))


def test_a_model_that_came_is_given_what_waits() -> None:
    """A request that waits for it begins in the same answer; its queue is asked for more."""
    mesh = Dialogue(KNOWN, joined(models="m"), QueueSeen(queue="q.n", model="n"))
    assert mesh.tell(request(queue="q.n", model="n")) == []
    answer = mesh.tell(ModelCame(worker="w", model="n", cost=costs()))
    (start,) = batches(answer)
    assert (start.worker, start.model) == ("w", "n")
    assert [type(command) for command in answer if isinstance(command, Pull)] == [Pull]
    assert mesh.scheduler.served() == frozenset("mn")


def test_a_model_that_went_ends_what_runs_and_gets_no_more() -> None:
    """Its running batch ends as any; the next request of it waits, though the lane is free."""
    mesh = Dialogue(KNOWN, joined(models="mn", cost=costs()))
    running = mesh.start(request("r1"))
    assert mesh.tell(ModelWent(worker="w", model="m")) == []
    assert mesh.tell(request("r2")) == []
    for assignment in running.assignments:
        mesh.tell(completed(assignment))
    assert batches(mesh.tell(ended(running))) == []
    assert mesh.scheduler.waits("r2")
    assert mesh.scheduler.served() == frozenset("n")


def test_what_waits_for_a_model_that_nobody_wants_goes_back() -> None:
    """It is released to its queue when the model is neither served nor known any more; and not before."""
    mesh = Dialogue(KNOWN, joined(models="m"))
    mesh.tell(request("r1"), request("r2"))
    assert mesh.tell(ModelWent(worker="w", model="m")) == []
    assert mesh.tell(ModelsKnown(models=frozenset("n"))) == [Release(request_id="r2")]


def test_a_place_in_the_queue_knows_when_the_model_is_expected() -> None:
    """The first of the workers that are about to have it counts; where none knows, nor does the place."""
    mesh = Dialogue(KNOWN, joined("a", models="n"), joined("b", models="n"))
    mesh.tell(request("r"))
    assert mesh.scheduler.place("r", 0.0).estimated_wait_s is None
    mesh.tell(ModelsComing(worker="a", models={"m": None}), ModelsComing(worker="b", models={"m": 9.0}))
    assert mesh.scheduler.place("r", 2.0).estimated_wait_s == 7.0
    mesh.tell(ModelsComing(worker="a", models={"m": 5.0}))
    assert mesh.scheduler.place("r", 2.0).estimated_wait_s == 3.0
    assert mesh.scheduler.ready_at_s("m") == 5.0
    mesh.tell(WorkerLost(worker="a"), WorkerLost(worker="b"))
    assert mesh.scheduler.ready_at_s("m") is None


def test_another_version_of_a_model_has_its_own_cost() -> None:
    """What it costs is forgotten with the version that it was measured of."""
    mesh = Dialogue(KNOWN, joined(models="m", cost=costs(slower=9.0)))
    lone_s = mesh.scheduler._outlook.lone_s
    slow_s = lone_s(held())
    mesh.tell(ModelCame(worker="w", model="m", cost=costs()))
    assert lone_s(held()) < slow_s / 8


def test_peers_that_serve_it_get_what_waits() -> None:
    """A model that went here and is there elsewhere: what waits goes there, by way of its queue."""
    mesh = Dialogue(KNOWN, joined(models="m"), PeersServe(models=frozenset("m")))
    mesh.tell(request("r1"), request("r2"))
    assert mesh.tell(ModelWent(worker="w", model="m")) == [Release(request_id="r2")]
