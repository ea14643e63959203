"""From the start to the end on a lane: progress, its fences, losses and resumption."""

from __future__ import annotations

import pytest

from headrace.contract.values import Failure, FinishReason, OutcomeKind
from headrace.router.core.commands import Assignment, Deliver, Requeued, Settle, Start, Stop
from headrace.router.core.events import (
    CancelAsked,
    EntryStopped,
    Settled,
    WorkerDraining,
    WorkerLost,
)
from tests.router.core.dialogue import (
    Dialogue,
    batches,
    chunk,
    completed,
    delivered,
    ended,
    failed,
    groups,
    joined,
    made,
    request,
)


def test_tokens_are_delivered_as_they_come() -> None:
    """With their indices, whatever the size of a frame."""
    mesh = Dialogue(joined())
    (entry,) = mesh.start(request("r")).assignments
    assert mesh.tell(made(entry, 0, 2)) == [Deliver(request_id="r", tokens=chunk(0, 2))]
    assert delivered(mesh.tell(made(entry, 2), made(entry, 3, 5))) == [2, 3, 4, 5, 6, 7]


def test_a_frame_with_a_repeat_is_dropped() -> None:
    """The consumer sees every index once, in order."""
    mesh = Dialogue(joined())
    (entry,) = mesh.start(request("r")).assignments
    mesh.tell(made(entry, 0, 3))
    assert mesh.tell(made(entry, 0, 3), made(entry, 2), made(entry, 0, 9)) == []
    assert delivered(mesh.tell(made(entry, 3))) == [3]


@pytest.mark.parametrize("nonsense", [(4, 1), (3, 18)], ids=["a gap", "more than were asked for"])
def test_tokens_that_cannot_be_the_next_ones_are_a_lost_attempt(nonsense: tuple[int, int]) -> None:
    """The output is not cut short: the worker is told to stop, and the request goes on after its last good token."""
    mesh = Dialogue(joined())
    batch = mesh.start(request("r", max_tokens=20))
    (entry,) = batch.assignments
    mesh.tell(made(entry, 0, 3))
    assert mesh.tell(made(entry, *nonsense)) == [
        Stop(worker="w", assignment=entry.number),
        Requeued(request_id="r", reason="its worker skipped tokens, or made too many"),
    ]
    assert mesh.tell(made(entry, 3), completed(entry), failed(entry)) == []
    (again,) = batches(mesh.tell(ended(batch)))
    assert again.assignments[0].attempt == 2
    assert delivered(mesh.tell(made(again.assignments[0], 3))) == [3]


def test_a_worker_that_goes_on_to_make_no_sense_gets_a_request_so_many_times() -> None:
    """It counts like a failed engine."""
    mesh = Dialogue(joined(), max_attempts=2)
    batch = mesh.start(request("r"))
    mesh.tell(made(batch.assignments[0], 1))
    (batch,) = batches(mesh.tell(ended(batch)))
    stop, settle = mesh.tell(made(batch.assignments[0], 1))
    assert isinstance(stop, Stop)
    assert isinstance(settle, Settle)
    assert (settle.kind, settle.dead) == (OutcomeKind.FAILED, True)


def test_a_frame_of_an_unknown_or_ended_assignment_is_dropped() -> None:
    """The number fences it, though the request goes on and the index would be right."""
    mesh = Dialogue(joined())
    (first,) = mesh.start(request("r")).assignments
    mesh.tell(made(first, 0), WorkerLost(worker="w"))
    (second,) = mesh.start(joined("v")).assignments
    assert mesh.tell(made(first, 1), completed(first), failed(first)) == []
    assert delivered(mesh.tell(made(second, 1))) == [1]


def test_a_completed_request_is_settled_with_its_reason() -> None:
    """Once: nothing that comes later changes it, and its lane is busy until the batch has ended."""
    mesh = Dialogue(joined())
    batch = mesh.start(request("r"))
    (entry,) = batch.assignments
    mesh.tell(request("next"))
    assert mesh.tell(completed(entry, FinishReason.STOP)) == [
        Settle(request_id="r", kind=OutcomeKind.COMPLETED, finish_reason=FinishReason.STOP)
    ]
    assert mesh.tell(completed(entry), failed(entry), made(entry, 0), WorkerDraining(worker="x")) == []
    assert len(mesh.scheduler) == 2, "it is held until it is settled"
    assert mesh.tell(Settled(request_id="r")) == []
    assert groups(mesh.tell(ended(batch))) == [["next"]]


def test_a_lost_worker_s_requests_start_elsewhere() -> None:
    """They wait again, with their tokens so far and the next attempt's number, before anything new."""
    mesh = Dialogue(joined())
    (entry,) = mesh.start(request("r", arrived_s=1.0)).assignments
    mesh.tell(made(entry, 0, 4), request("young", arrived_s=2.0))
    assert mesh.tell(WorkerLost(worker="w")) == [Requeued(request_id="r", reason="its worker was lost")]
    start = mesh.start(joined("v", max_batch=1))
    assert start.assignments == (Assignment(number=4, request_id="r", attempt=2),)
    assert delivered(mesh.tell(made(start.assignments[0], 4))) == [4]


def test_all_batches_of_a_lost_worker_are_handed_back_together() -> None:
    """So those that can go together, do."""
    mesh = Dialogue(joined(lanes=2, max_batch=2))
    mesh.tell(*(request(name) for name in "abc"))
    lost = mesh.tell(WorkerLost(worker="w"))
    assert [c.request_id for c in lost if isinstance(c, Requeued)] == ["a", "b"]
    assert groups(mesh.tell(joined("v", lanes=1))) == [["a", "b", "c"]]


def test_an_entry_that_its_batch_ended_without_is_lost() -> None:
    """A worker that forgets an entry does not hold it for ever."""
    mesh = Dialogue(joined())
    batch = mesh.start(request("r"))
    requeued, start = mesh.tell(ended(batch))
    assert requeued == Requeued(request_id="r", reason="its batch ended without it")
    assert isinstance(start, Start)
    assert start.assignments[0].attempt == 2


def test_a_failed_entry_is_tried_again_and_given_up_after_so_many_losses() -> None:
    """Lost workers and failed engines count alike. The last one tells why."""
    mesh = Dialogue(joined(), max_attempts=3)
    batch = mesh.start(request("r"))
    assert mesh.tell(failed(batch.assignments[0], "no memory")) == [
        Requeued(request_id="r", reason="no memory")
    ]
    (batch,) = batches(mesh.tell(ended(batch)))
    mesh.tell(WorkerLost(worker="w"))
    batch = mesh.start(joined("v"))
    assert batch.assignments[0].attempt == 3
    assert mesh.tell(failed(batch.assignments[0], "no luck")) == [
        Settle(
            request_id="r",
            kind=OutcomeKind.FAILED,
            failure=Failure(code="TOO_MANY_ATTEMPTS", message="given up after 3 attempts: no luck"),
            dead=True,
            losses=3,
        )
    ]


def test_what_a_leaving_worker_hands_back_is_no_loss() -> None:
    """However often workers leave, the request is not given up for it, and it keeps its tokens."""
    mesh = Dialogue(max_attempts=2)
    (batch,) = batches(mesh.tell(request("r"), joined("w0")))
    for index in range(1, 6):
        (entry,) = batch.assignments
        mesh.tell(made(entry, index - 1), WorkerDraining(worker=batch.worker))
        assert mesh.tell(EntryStopped(assignment=entry.number)) == [
            Requeued(request_id="r", reason="handed back by its worker")
        ]
        assert mesh.tell(ended(batch)) == [], "a lane that leaves takes nothing"
        batch = mesh.start(joined(f"w{index}"))
        assert batch.assignments[0].attempt == index + 1


def test_an_entry_that_was_told_to_stop_says_nothing_new() -> None:
    """Its request had ended when it was told."""
    mesh = Dialogue(joined())
    batch = mesh.start(request("r"))
    (entry,) = batch.assignments
    assert Stop(worker="w", assignment=entry.number) in mesh.tell(CancelAsked(tenant="t", request_id="r"))
    assert mesh.tell(EntryStopped(assignment=entry.number), ended(batch)) == []


def test_a_request_with_all_its_tokens_is_complete_however_its_worker_ends() -> None:
    """Lost between the last token and the end: it is not given to another lane to make nothing."""
    done = Settle(request_id="r", kind=OutcomeKind.COMPLETED, finish_reason=FinishReason.LENGTH, losses=1)
    for max_attempts in (1, 5):
        mesh = Dialogue(joined(), max_attempts=max_attempts)
        (entry,) = mesh.start(request("r", max_tokens=3)).assignments
        mesh.tell(made(entry, 0, 3))
        assert mesh.tell(WorkerLost(worker="w")) == [done]


def test_a_request_that_arrives_with_all_its_tokens_is_complete() -> None:
    """A router was lost between the last token and the outcome."""
    mesh = Dialogue(joined())
    assert mesh.tell(request("r", max_tokens=3, generated=3, deadline_s=99.0)) == [
        Settle(request_id="r", kind=OutcomeKind.COMPLETED, finish_reason=FinishReason.LENGTH)
    ]


def test_a_request_resumed_from_another_router_goes_on_after_its_tokens() -> None:
    """The first index of this router is the next one of the request."""
    mesh = Dialogue(joined())
    (entry,) = mesh.start(request("r", generated=7)).assignments
    assert mesh.tell(made(entry, 0)) == []
    assert delivered(mesh.tell(made(entry, 7))) == [7]
