"""What is paused for whom, and when it goes on."""

from __future__ import annotations

import pytest

from headrace.contract.values import Priority
from headrace.router.core.commands import Pause, Resume
from headrace.router.core.events import DrainBegan, ModelWent, WorkerDraining, WorkerLost
from tests.router.core.dialogue import Dialogue, batches, costs, ended, groups, joined, made, request, who

REALTIME, HIGH, BATCH = Priority.REALTIME, Priority.HIGH, Priority.BATCH


def test_a_more_urgent_request_does_not_wait_for_a_less_urgent_one() -> None:
    """The batch is paused before the other starts, and goes on when that has ended."""
    mesh = Dialogue(joined(lanes=2, slots=1))
    bulk = mesh.start(request("bulk", priority=BATCH))
    pause, start = mesh.tell(request("urgent", priority=REALTIME))
    assert pause == Pause(worker="w", batch=bulk.batch)
    assert groups([start]) == [["urgent"]]
    (urgent,) = batches([start])
    assert urgent.lane != bulk.lane
    assert mesh.end(urgent) == [Resume(worker="w", batch=bulk.batch)]


def test_a_pause_says_for_which_class_it_is() -> None:
    """For those who ask later why a request stood still."""
    mesh = Dialogue(joined(lanes=2, slots=1))
    mesh.start(request("bulk", priority=BATCH))
    pause, _ = mesh.tell(request("urgent", priority=HIGH))
    assert isinstance(pause, Pause)
    assert pause.by is HIGH


def test_equals_do_not_pause_one_another() -> None:
    """Nor is a more urgent one paused for a less urgent one."""
    mesh = Dialogue(joined(lanes=4, slots=1))
    mesh.start(request("high", priority=HIGH))
    assert mesh.tell(request("equal", priority=HIGH), request("low")) == []


def test_without_a_lane_left_nothing_is_paused() -> None:
    """A lane has one batch."""
    mesh = Dialogue(joined(lanes=1))
    mesh.start(request("bulk", priority=BATCH))
    assert mesh.tell(request("urgent", priority=REALTIME)) == []


def test_what_is_paused_waits_for_what_is_more_urgent_and_goes_before_what_is_not() -> None:
    """Of its own class it goes first: it is nearer to its end."""
    mesh = Dialogue(joined(lanes=3, slots=1, max_batch=1))
    normal = mesh.start(request("normal"))
    _, start = mesh.tell(request("first", priority=HIGH))
    mesh.tell(request("second", priority=HIGH), request("later"))
    (first,) = batches([start])
    (second,) = batches(mesh.end(first))
    assert who(second) == ["second"]
    assert mesh.end(second) == [Resume(worker="w", batch=normal.batch)]
    assert groups(mesh.end(normal)) == [["later"]]


def test_the_least_urgent_is_paused() -> None:
    """Though it is older."""
    mesh = Dialogue(joined(lanes=4, slots=2, max_batch=1))
    bulk = mesh.start(request("bulk", priority=BATCH))
    mesh.start(request("normal"))
    assert mesh.tell(request("urgent", priority=REALTIME))[0] == Pause(worker="w", batch=bulk.batch)


def test_tokens_of_a_paused_batch_are_delivered() -> None:
    """It gets a step now and then."""
    mesh = Dialogue(joined(lanes=2, slots=1))
    bulk = mesh.start(request("bulk", priority=BATCH))
    mesh.tell(request("urgent", priority=REALTIME))
    assert len(mesh.tell(made(bulk.assignments[0], 0))) == 1


def test_a_paused_batch_that_ends_frees_its_lane_alone() -> None:
    """Its slot was free already."""
    mesh = Dialogue(joined(lanes=2, slots=1))
    bulk = mesh.start(request("bulk", priority=BATCH))
    mesh.tell(request("urgent", priority=REALTIME), request("waits", priority=BATCH))
    assert mesh.end(bulk) == mesh.tell()[:0] or not batches(mesh.tell(ended(bulk)))
    assert mesh.scheduler.load("m").free_lanes == 0


def test_what_is_paused_on_a_worker_or_router_that_leaves_goes_on() -> None:
    """Nothing new comes, so its slot is free for it."""
    for leaving in (WorkerDraining(worker="w"), DrainBegan()):
        mesh = Dialogue(joined(lanes=2, slots=1))
        bulk = mesh.start(request("bulk", priority=BATCH))
        _, start = mesh.tell(request("urgent", priority=REALTIME))
        mesh.tell(leaving)
        (urgent,) = batches([start])
        assert Resume(worker="w", batch=bulk.batch) in mesh.end(urgent)


def test_what_is_paused_on_a_lost_worker_waits_again() -> None:
    """With what it has made so far."""
    mesh = Dialogue(joined(lanes=2, slots=1))
    mesh.start(request("bulk", priority=BATCH))
    mesh.tell(request("urgent", priority=REALTIME))
    mesh.tell(WorkerLost(worker="w"))
    assert groups(mesh.tell(joined("v", lanes=1))) == [["urgent"]]


def test_a_request_that_has_waited_long_counts_as_more_urgent() -> None:
    """So that nothing starves."""
    mesh = Dialogue(joined(lanes=1, max_batch=1), ageing_s=100.0)
    running = mesh.start(request("running", priority=HIGH))
    mesh.tell(
        request("old", priority=BATCH, arrived_s=0.0),
        request("new", priority=HIGH, arrived_s=250.0),
        at=250.0,
    )
    assert groups(mesh.end(running)) == [["old"]]


def test_a_slow_worker_is_left_free_for_what_a_fast_one_finishes_sooner() -> None:
    """And is looked at again when the fast one should be free; it takes what it would finish first."""
    fast, slow = (
        joined("fast", cost=costs(), max_batch=1),
        joined("slow", cost=costs(slower=3.0), max_batch=1),
    )
    mesh = Dialogue(fast, slow)
    assert mesh.start(request("a")).worker == "fast"
    commands = mesh.tell(request("b"))
    assert batches(commands) == []
    assert [type(command).__name__ for command in commands] == ["WakeAt"]
    started = batches(mesh.tell(*(request(name) for name in "cdefg")))
    assert {start.worker for start in started} == {"slow"}
    assert [who(start) for start in started] == [["c"]], "b is the next on the fast one"


def test_the_fast_one_pauses_something_before_the_slow_one_is_used() -> None:
    """If that finishes the request sooner."""
    mesh = Dialogue(
        joined("fast", cost=costs(), lanes=2, slots=1),
        joined("slow", cost=costs(slower=30.0), lanes=2, slots=1),
    )
    bulk = mesh.start(request("bulk", priority=BATCH))
    assert bulk.worker == "fast"
    pause, start = mesh.tell(request("urgent", priority=REALTIME))[:2]
    assert (pause, batches([start])[0].worker) == (Pause(worker="fast", batch=bulk.batch), "fast")


@pytest.mark.parametrize(("prompt_tokens", "expected"), [(50, "fast"), (900, "slow")])
def test_a_prefill_that_is_soon_over_is_waited_for_on_a_fast_worker(
    prompt_tokens: int, expected: str
) -> None:
    """Rather than a batch that can be held at once on a slow one; not where that ends the request sooner."""
    mesh = Dialogue(
        joined("fast", cost=costs(), lanes=2, slots=1, max_batch=1),
        joined("slow", cost=costs(slower=3.0), lanes=2, slots=1, max_batch=1),
        slower=10.0,
    )
    mesh.start(request("in prefill", priority=BATCH, prompt_tokens=prompt_tokens, max_tokens=100))
    stepping = mesh.start(request("stepping", priority=BATCH, max_tokens=100))
    assert stepping.worker == "slow"
    mesh.tell(made(stepping.assignments[0], 0))
    pause = mesh.tell(request("urgent", priority=REALTIME))[0]
    assert isinstance(pause, Pause)
    assert pause.worker == expected


def test_what_runs_of_a_model_that_went_can_be_paused() -> None:
    """Nobody knows any more what its prefill costs."""
    mesh = Dialogue(joined(cost=costs(), lanes=2, slots=1, models="mn"))
    mesh.start(request("bulk", priority=BATCH))
    mesh.tell(ModelWent(worker="w", model="m"))
    pause = mesh.tell(request("urgent", priority=REALTIME, model="n", queue="n"))[0]
    assert isinstance(pause, Pause)
