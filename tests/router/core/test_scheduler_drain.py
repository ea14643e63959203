"""A router that leaves."""

from __future__ import annotations

from headrace.contract.values import FinishReason, OutcomeKind
from headrace.router.core.commands import Release, Settle, Stop
from headrace.router.core.events import (
    CancelAsked,
    DrainBegan,
    DrainEnded,
    EntryStopped,
    ModelsKnown,
    PullLapsed,
    QueueSeen,
    Settled,
    Woke,
    WorkerLost,
)
from tests.router.core.dialogue import Dialogue, completed, delivered, ended, failed, joined, made, request


def test_what_waits_goes_back_and_what_runs_goes_on() -> None:
    """In the order of the queue; the running ones are answered."""
    mesh = Dialogue(joined(max_batch=1))
    batch = mesh.start(request("r"))
    (entry,) = batch.assignments
    mesh.tell(request("b", arrived_s=1.0), request("a"))
    assert mesh.tell(DrainBegan()) == [Release(request_id="a"), Release(request_id="b")]
    assert delivered(mesh.tell(made(entry, 0))) == [0]
    assert mesh.tell(completed(entry)) == [
        Settle(request_id="r", kind=OutcomeKind.COMPLETED, finish_reason=FinishReason.END)
    ]


def test_nothing_is_pulled_or_started_any_more() -> None:
    """Whatever lanes or queues come."""
    queue = QueueSeen(queue="q", model="m")
    mesh = Dialogue(ModelsKnown(models=frozenset("m")), joined(), queue, DrainBegan())
    assert mesh.tell(joined("v"), PullLapsed(queue="q", count=9), QueueSeen(queue="p", model="m")) == []


def test_what_still_comes_in_goes_back() -> None:
    """It was pulled before. Even if it was cancelled: the next router is told so, too."""
    mesh = Dialogue(joined(), DrainBegan())
    mesh.tell(CancelAsked(tenant="t", request_id="b"))
    assert mesh.tell(request("a"), request("b")) == [Release(request_id="a"), Release(request_id="b")]


def test_what_loses_its_lane_goes_back() -> None:
    """Lost, failed or handed back: it does not wait here again."""
    mesh = Dialogue(joined("w"), joined("v"), joined("u"))
    batches = [mesh.start(request(name)) for name in "abc"]
    (b,) = batches[1].assignments
    (c,) = batches[2].assignments
    mesh.tell(DrainBegan())
    assert mesh.tell(WorkerLost(worker="w")) == [Release(request_id="a", losses=1)]
    assert mesh.tell(failed(b)) == [Release(request_id="b", losses=1)]
    assert mesh.tell(EntryStopped(assignment=c.number)) == [Release(request_id="c")]


def test_the_last_loss_ends_a_request_in_a_drain_too() -> None:
    """The next router would only repeat it."""
    mesh = Dialogue(joined(), max_attempts=1)
    (entry,) = mesh.start(request("r")).assignments
    (end,) = mesh.tell(DrainBegan(), failed(entry))
    assert isinstance(end, Settle)
    assert end.dead


def test_deadlines_and_cancellations_count_until_the_end() -> None:
    """A draining router still answers."""
    mesh = Dialogue(joined(max_batch=2), request("c"), joined("v", max_batch=2))
    mesh.tell(request("d", deadline_s=5.0), DrainBegan())
    assert mesh.tell(CancelAsked(tenant="t", request_id="c"))[-1] == Settle(
        request_id="c", kind=OutcomeKind.CANCELLED
    )
    last = mesh.tell(Woke(), at=5.0)[-1]
    assert isinstance(last, Settle)
    assert last.kind is OutcomeKind.EXPIRED


def test_after_the_grace_what_runs_goes_back_too() -> None:
    """Once each; what is being settled stays settled."""
    mesh = Dialogue(joined("w"), joined("v"))
    first, second = mesh.start(request("a")), mesh.start(request("b"))
    mesh.tell(completed(second.assignments[0]), DrainBegan())
    assert mesh.tell(DrainEnded()) == [
        Stop(worker="w", assignment=first.assignments[0].number),
        Release(request_id="a"),
    ]
    assert mesh.tell(made(first.assignments[0], 0), ended(first), ended(second), DrainEnded()) == []
    mesh.tell(Settled(request_id="a"), Settled(request_id="b"))
    assert len(mesh.scheduler) == 0
