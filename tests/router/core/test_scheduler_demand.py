"""How many messages are asked for, of which queues."""

from __future__ import annotations

from headrace.router.core.commands import Command, Pull, Settle
from headrace.router.core.events import (
    CancelAsked,
    Event,
    ModelsKnown,
    PullLapsed,
    QueueGone,
    QueueSeen,
    RequestRefused,
    Settled,
    WorkerDraining,
    WorkerLost,
)
from tests.router.core.dialogue import Dialogue, batches, ended, joined, request

KNOWN = ModelsKnown(models=frozenset("mn"))
SEEN = QueueSeen(queue="q", model="m")


def pulls(commands: list[Command]) -> dict[str, int]:
    asked = {command.queue: command.count for command in commands if isinstance(command, Pull)}
    assert len(asked) == sum(isinstance(command, Pull) for command in commands), "one pull per queue"
    return asked


def mesh_with(*events: Event, **settings: int) -> Dialogue:
    return Dialogue(KNOWN, *events, **{"lookahead": 3, **settings})


def test_room_of_the_lanes_and_the_look_ahead_is_asked_for() -> None:
    """Once: what is coming counts."""
    mesh = mesh_with(joined(lanes=2, max_batch=4))
    assert mesh.tell(SEEN) == [Pull(queue="q", count=2 * 4 + 3)]
    assert mesh.tell(SEEN, KNOWN) == []


def test_nothing_is_asked_for_without_a_lane() -> None:
    """The requests wait in the broker, where another router can take them."""
    mesh = mesh_with(SEEN, joined(models="n"))
    assert mesh.tell(joined("v", max_batch=1)) == [Pull(queue="q", count=1 + 3)]


def test_what_starts_makes_room_for_as_many_more() -> None:
    """The look-ahead and the room of the lanes are of those that wait."""
    mesh = mesh_with(joined(max_batch=1), SEEN)
    assert pulls(mesh.tell(request("a"))) == {"q": 1}
    assert pulls(mesh.tell(request("b"))) == {}, "it waits where one was coming"


def test_a_freed_lane_asks_for_what_it_took() -> None:
    """And for nothing when a request ends that had left the queue before."""
    mesh = mesh_with(joined(max_batch=1), SEEN)
    (batch,) = batches(mesh.tell(request("a")))
    mesh.tell(request("b"))
    assert pulls(mesh.end(batch)) == {"q": 1}
    assert pulls(mesh.tell(Settled(request_id="a"))) == {}


def test_a_refused_or_lapsed_message_is_asked_for_again() -> None:
    """What never comes as a request must not count as coming for ever."""
    mesh = mesh_with(joined(max_batch=1), SEEN)
    assert pulls(mesh.tell(RequestRefused(queue="q"))) == {"q": 1}
    assert pulls(mesh.tell(PullLapsed(queue="q", count=3))) == {"q": 3}
    assert pulls(mesh.tell(PullLapsed(queue="q", count=99))) == {"q": 4}, "no more than were coming"


def test_unknown_models_and_improper_queues_are_pulled_one_by_one() -> None:
    """To be refused; whether there is a lane or not."""
    mesh = mesh_with()
    unknown, improper = QueueSeen(queue="u", model="u"), QueueSeen(queue="i", model=None)
    assert pulls(mesh.tell(unknown, improper)) == {"u": 1, "i": 1}
    assert pulls(mesh.tell(RequestRefused(queue="u"))) == {"u": 1}


def test_a_model_that_becomes_known_is_pulled_in_full() -> None:
    """And one that is no more, one by one again."""
    mesh = mesh_with(joined(max_batch=2, models="u"), QueueSeen(queue="q", model="u"))
    assert pulls(mesh.tell(ModelsKnown(models=frozenset("mu")))) == {"q": 2 + 3 - 1}
    assert pulls(mesh.tell(KNOWN, PullLapsed(queue="q", count=5))) == {"q": 1}


def test_lanes_that_come_and_go_change_the_target() -> None:
    """What was asked for before stays asked for: it is not asked for twice."""
    mesh = mesh_with(joined("w", max_batch=2), SEEN)
    assert pulls(mesh.tell(joined("v", max_batch=4))) == {"q": 4}
    assert pulls(mesh.tell(WorkerDraining(worker="v"), WorkerLost(worker="v"))) == {}
    assert pulls(mesh.tell(joined("u", max_batch=5))) == {"q": 1}


def test_each_queue_has_its_own_demand() -> None:
    """A flood in one does not hide the head of another."""
    mesh = mesh_with(joined(max_batch=1), SEEN)
    mesh.tell(*(request(name) for name in "abcde"))
    assert pulls(mesh.tell(QueueSeen(queue="p", model="m"))) == {"p": 4}


def test_no_more_is_held_than_the_router_may() -> None:
    """Over all queues; those that are being settled count until they are."""
    mesh = mesh_with(joined(max_batch=1), SEEN, max_held=5)
    assert pulls(mesh.tell(QueueSeen(queue="p", model="m"))) == {"p": 1}
    mesh.tell(*(request(name) for name in "abcd"), request("e", queue="p"))
    ended_b = mesh.tell(CancelAsked(tenant="t", request_id="b"))
    assert [type(command) for command in ended_b] == [Settle]
    assert pulls(mesh.tell(Settled(request_id="b"))) == {"p": 1}, "the queue that has waited longest for room"


def test_a_full_router_asks_again_when_it_has_room() -> None:
    """Whatever made the room."""
    mesh = mesh_with(joined(max_batch=1), SEEN, max_held=1)
    start = mesh.start(request("a"))
    assert pulls(mesh.tell(ended(start))) == {}
    assert pulls(mesh.tell(CancelAsked(tenant="t", request_id="a"), Settled(request_id="a"))) == {"q": 1}


def test_a_queue_that_is_gone_is_not_asked() -> None:
    """Nor does what was coming of it count against the others."""
    mesh = mesh_with(joined(max_batch=1), SEEN, max_held=4)
    assert pulls(mesh.tell(QueueSeen(queue="p", model="m"))) == {}
    assert pulls(mesh.tell(QueueGone(queue="q"))) == {"p": 4}
    assert mesh.tell(QueueGone(queue="q"), PullLapsed(queue="q", count=2), RequestRefused(queue="q")) == []


def test_a_queue_that_is_gone_and_seen_again_knows_what_waits_here() -> None:
    """Its target holds for all of its requests, also for those of before."""
    mesh = mesh_with(joined(max_batch=1), SEEN)
    mesh.tell(*(request(name) for name in "abc"))
    mesh.tell(QueueGone(queue="q"))
    assert pulls(mesh.tell(SEEN)) == {"q": 1 + 3 - 2}
    gone = (CancelAsked(tenant="t", request_id=name) for name in "bc")
    assert sum(pulls(mesh.tell(event)).get("q", 0) for event in gone) == 2
