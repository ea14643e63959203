"""What lanes still compute that nobody waits for: of a router that is gone, and of requests that were cancelled."""

from __future__ import annotations

from headrace.contract.values import Priority, Sampling
from headrace.router.core.commands import Start, Stop
from headrace.router.core.events import CancelAsked, LaneFreed, Woke, WorkerLost
from tests.router.core.dialogue import Dialogue, batches, costs, ended, groups, joined, made, request

FAST, SLOW = costs(step_s=0.01), costs(step_s=0.01, slower=20.0)


def test_a_lane_that_was_busy_at_the_join_takes_nothing_before_it_is_freed() -> None:
    """The other lane takes what there is; a word on another lane frees none."""
    mesh = Dialogue(joined(lanes=2, max_batch=1, busy={1}))
    assert mesh.scheduler.load("m").free_lanes == 1
    assert mesh.start(request("first")).lane == 0
    assert mesh.tell(request("second"), LaneFreed(worker="w", lane=0), LaneFreed(worker="v", lane=1)) == []
    (second,) = mesh.tell(LaneFreed(worker="w", lane=1))
    assert isinstance(second, Start)
    assert second.lane == 1
    assert mesh.tell(LaneFreed(worker="w", lane=1)) == []


def test_what_is_left_over_takes_a_slot_too() -> None:
    """A spare lane is none of the engine's: a batch on it would wait for the prefill."""
    mesh = Dialogue(joined(lanes=2, slots=1, busy={0}))
    assert mesh.tell(request("urgent", priority=Priority.REALTIME)) == []
    assert groups(mesh.tell(LaneFreed(worker="w", lane=0))) == [["urgent"]]


def test_a_request_goes_to_a_slow_worker_rather_than_to_one_that_is_held_up() -> None:
    """For how long that will be nobody knows, so it is not waited for."""
    mesh = Dialogue(joined("fast", cost=FAST, busy={0}), joined("slow", cost=SLOW), slower=3.0)
    assert mesh.start(request()).worker == "slow"


def test_a_busy_slot_beside_another_is_not_waited_for() -> None:
    """Of a worker that has one, the other slots count alone."""
    mesh = Dialogue(joined("fast", lanes=2, cost=FAST, busy={0}), joined("slow", cost=SLOW), slower=3.0)
    endless = Sampling(ignore_end=True)
    assert mesh.start(request("long", max_tokens=2000, sampling=endless)).worker == "fast"
    assert mesh.start(request("small")).worker == "slow"


def test_the_fastest_is_one_that_is_not_held_up() -> None:
    """Work and first tokens are reckoned by it; by the other again once that is freed."""
    mesh = Dialogue(joined("fast", cost=FAST, busy={0}), joined("slow", cost=SLOW))
    fleet = mesh.scheduler._fleet
    assert fleet.fastest("m") is fleet.workers["slow"].costs["m"]
    assert fleet.speed("m") == 1.0
    mesh.tell(LaneFreed(worker="fast", lane=0))
    assert fleet.fastest("m") is fleet.workers["fast"].costs["m"]
    assert 1.0 < fleet.speed("m") < 1.2


def test_a_worker_that_is_held_up_is_nobodys_estimate() -> None:
    """With another there, that one's wait counts; with none, nothing is known of it, and nobody is refused for it."""
    mesh = Dialogue(joined("fast", cost=FAST, busy={0}))
    mesh.tell(request("alone", deadline_s=5.0))
    assert mesh.scheduler.place("alone", 0.0).estimated_wait_s is None
    mesh = Dialogue(joined("fast", cost=FAST, busy={0}), joined("slow", cost=SLOW, max_batch=1))
    mesh.tell(request("runs"), request("waits"))
    waits_s = mesh.scheduler.place("waits", 0.0).estimated_wait_s
    assert waits_s is not None
    assert waits_s > 1.0
    mesh.tell(LaneFreed(worker="fast", lane=0), request("next"))
    next_s = mesh.scheduler.place("next", 0.0).estimated_wait_s
    assert next_s is not None
    assert next_s < waits_s


def test_a_worker_that_is_lost_takes_what_was_left_over_with_it() -> None:
    """When it joins again, it says anew what is busy."""
    mesh = Dialogue(joined(busy={0}), WorkerLost(worker="w"))
    assert batches(mesh.tell(joined(), request()))


def test_a_cancelled_prefill_keeps_its_lane_until_its_batch_has_ended() -> None:
    """At the router that cancelled it, too: what comes meanwhile goes elsewhere, or waits."""
    mesh = Dialogue(joined("w"), joined("v"))
    long = mesh.start(request("long"))
    assert Stop(worker=long.worker, assignment=long.assignments[0].number) in mesh.tell(
        CancelAsked(tenant="t", request_id="long")
    )
    assert mesh.start(request("small")).worker != long.worker
    assert mesh.tell(request("waits")) == []
    assert groups(mesh.tell(ended(long))) == [["waits"]]


def test_a_cancelled_prefill_is_not_paused_for_a_more_urgent_request() -> None:
    """It would keep the engine all the same: whatever else ends first takes the request. One that makes tokens can be
    held at its next.
    """
    for stepping in (False, True):
        mesh = Dialogue(joined(lanes=2, slots=1))
        long = mesh.start(request("long", priority=Priority.BATCH))
        if stepping:
            mesh.tell(made(long.assignments[0], 0))
        mesh.tell(CancelAsked(tenant="t", request_id="long"))
        urgent = mesh.tell(request("urgent", priority=Priority.REALTIME))
        assert groups(urgent) == ([["urgent"]] if stepping else [])
        if not stepping:
            assert groups(mesh.tell(ended(long))) == [["urgent"]]


def test_a_batch_that_runs_far_longer_than_expected_is_not_waited_for_for_ever() -> None:
    """The longer it has run beyond that, the longer it is expected to go on: at last a slow worker is better."""
    mesh = Dialogue(joined("fast", cost=FAST), joined("slow", cost=SLOW), slower=3.0)
    assert mesh.start(request("long")).worker == "fast"
    assert batches(mesh.tell(request("small", arrived_s=10.0), at=10.0)) == []
    (small,) = batches(mesh.tell(Woke(), at=30.0))
    assert small.worker == "slow"
