"""Aliases in the scheduler: whose queues are pulled, and who goes to another version."""

from __future__ import annotations

from headrace.router.core.commands import Pull, Release
from headrace.router.core.events import (
    ModelsKnown,
    PeersServe,
    QueueSeen,
    RoutesKnown,
    WorkerDraining,
    WorkerLost,
)
from tests.router.core.dialogue import Dialogue, batches, joined, made, request, who

ROUTES = RoutesKnown(routes={"chat": ("m", "n")})
KNOWN = ModelsKnown(models=frozenset("mn"))
SEEN = QueueSeen(queue="q", model="chat")


def test_an_aliass_queue_is_pulled_for_the_lanes_of_all_its_versions() -> None:
    """Two workers of four, and the look-ahead."""
    mesh = Dialogue(KNOWN, ROUTES, joined("w1", models="m"), joined("w2", models="n"), lookahead=10)
    assert mesh.tell(SEEN) == [Pull(queue="q", count=2 * 4 + 10)]


def test_an_alias_that_nobody_told_of_is_pulled_to_be_refused() -> None:
    """Like any unknown model; once it is told of, as much as its lanes can take."""
    mesh = Dialogue(KNOWN, joined("w1", models="m"), lookahead=10)
    assert mesh.tell(SEEN) == [Pull(queue="q", count=1)]
    assert mesh.tell(ROUTES) == [Pull(queue="q", count=4 + 10 - 1)]


def test_what_waits_for_a_version_that_left_goes_to_another() -> None:
    """By way of its queue; what asked for the model itself waits for it."""
    mesh = Dialogue(KNOWN, ROUTES, joined("w1", models="m", max_batch=1), joined("w2", models="n"))
    mesh.tell(request("runs", asked="chat"))
    assert mesh.tell(request("waits", asked="chat"), request("itself")) == []
    assert mesh.tell(WorkerDraining(worker="w1")) == [Release(request_id="waits")]


def test_what_ran_on_a_version_that_is_lost_goes_to_another() -> None:
    """With its loss counted."""
    mesh = Dialogue(KNOWN, ROUTES, joined("w1", models="m"))
    batch = mesh.start(request("r", asked="chat"))
    mesh.tell(made(batch.assignments[0], 0), joined("w2", models="n"))
    answer = mesh.tell(WorkerLost(worker="w1"))
    assert answer[-1] == Release(request_id="r", losses=1)


def test_what_waits_goes_to_a_version_that_only_another_router_has() -> None:
    """The other router resolves it anew."""
    mesh = Dialogue(KNOWN, ROUTES)
    assert mesh.tell(request("r", asked="chat")) == []
    assert mesh.tell(PeersServe(models=frozenset("n"))) == [Release(request_id="r")]


def test_a_version_with_lanes_keeps_what_waits_for_it() -> None:
    """However busy it is, and however idle the other one."""
    mesh = Dialogue(KNOWN, ROUTES, joined("w1", models="m", max_batch=1), joined("w2", models="n"))
    first = mesh.start(request("a", asked="chat"))
    assert mesh.tell(request("b", asked="chat")) == []
    (after,) = batches(mesh.end(first))
    assert (who(after), after.model) == (["b"], "m")
