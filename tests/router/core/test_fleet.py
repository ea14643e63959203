"""Workers, their lanes and their slots."""

from __future__ import annotations

import pytest

from headrace.contract.costs import ModelCost
from headrace.router.core.fleet import Fleet
from headrace.router.core.worker import Batch
from tests.router.core.dialogue import costs, held

M, N, MN = frozenset("m"), frozenset("n"), frozenset("mn")


def join(
    fleet: Fleet,
    name: str,
    *,
    lanes: int = 1,
    slots: int = 0,
    max_batch: int = 4,
    models: frozenset[str] = M,
    cost: ModelCost | None = None,
) -> None:
    known = dict.fromkeys(models, cost) if cost else {}
    fleet.join(name, lanes=lanes, slots=slots, max_batch=max_batch, models=models, costs=known)


def begin(
    fleet: Fleet, worker: str, lane: int, number: int = 1, *, level: int = 2, apart: bool = False
) -> Batch:
    batch = Batch(
        number=number,
        worker=worker,
        lane=lane,
        model="m",
        level=level,
        members=(held(prompt_tokens=10, generated=20),),
        assignments=(number,),
        extents=((10, 20.0),),
        expected_s=1.0,
        started_s=0.0,
        apart=apart,
    )
    fleet.begin(batch)
    return batch


def a_fleet() -> Fleet:
    fleet = Fleet()
    join(fleet, "w", lanes=2, models=MN)
    join(fleet, "v", max_batch=8)
    return fleet


def test_slots_and_room_are_those_of_the_model() -> None:
    """Room is the entries that could run at once."""
    fleet = a_fleet()
    assert (fleet.slots("m"), fleet.slots("n"), fleet.slots("x")) == (3, 2, 0)
    assert (fleet.room("m"), fleet.room("n"), fleet.room("x")) == (16, 8, 0)
    assert fleet.open_slots("m") == 3


def test_lanes_beyond_the_slots_hold_what_is_paused() -> None:
    """They are no room, and nothing begins on them while the slots are taken."""
    fleet = Fleet()
    join(fleet, "w", lanes=3, slots=1)
    assert (fleet.slots("m"), fleet.open_slots("m"), fleet.room("m")) == (1, 1, 4)
    first = begin(fleet, "w", 0, 1)
    assert fleet.open_slots("m") == 0
    with pytest.raises(AssertionError, match="only a free slot"):
        begin(fleet, "w", 1, 2)
    fleet.pause(first, 1.0)
    second = begin(fleet, "w", 1, 2)
    assert (fleet.open_slots("m"), fleet.resumable()) == (0, None)
    assert fleet.end("w", 1, 2) is second
    resumable = fleet.resumable()
    assert resumable is not None
    assert resumable.to_resume() is first
    fleet.resume(first, 5.0)
    assert fleet.resumable() is None
    assert first.ran_s(6.0) == pytest.approx(2.0), "the time of its pause does not count"


def test_room_follows_the_workers_that_come_and_go() -> None:
    """It is remembered between them, not beyond."""
    fleet = a_fleet()
    assert fleet.room("m") == 16
    join(fleet, "u", max_batch=1)
    assert fleet.room("m") == 17
    fleet.drain("v")
    assert fleet.room("m") == 9
    fleet.leave("w")
    assert fleet.room("m") == 1


def test_a_busy_lane_is_not_free_until_its_batch_ends() -> None:
    """Slots stay slots, and room stays room, while they are busy."""
    fleet = a_fleet()
    batch = begin(fleet, "w", 0, 7)
    assert (fleet.slots("m"), fleet.open_slots("m"), fleet.room("m")) == (3, 2, 16)
    assert fleet.end("w", 0, 7) is batch
    assert fleet.open_slots("m") == 3
    assert fleet.end("w", 0, 7) is None, "it has ended once"


def test_a_lane_is_never_booked_twice() -> None:
    """That would be our own bug."""
    fleet = a_fleet()
    begin(fleet, "v", 0)
    with pytest.raises(AssertionError, match="only a free lane"):
        begin(fleet, "v", 0, 2)


def test_a_draining_worker_serves_nothing_and_still_ends_its_batches() -> None:
    """Its lanes do not come back, and what is paused on it may go on."""
    fleet = Fleet()
    join(fleet, "w", lanes=2, slots=1, models=MN)
    join(fleet, "v", max_batch=8)
    first = begin(fleet, "w", 0, 5)
    fleet.pause(first, 1.0)
    second = begin(fleet, "w", 1, 6)
    fleet.drain("w")
    fleet.drain("nobody")
    assert (fleet.slots("m"), fleet.open_slots("m"), fleet.room("m"), fleet.room("n")) == (1, 1, 8, 0)
    assert fleet.end("w", 1, 6) is second
    worker = fleet.resumable()
    assert worker is not None
    assert worker.name == "w"
    assert (fleet.open_slots("m"), list(fleet.open("n"))) == (1, [])


def test_a_lost_worker_leaves_its_batches() -> None:
    """Each once; and one that was never there leaves none."""
    fleet = a_fleet()
    batch = begin(fleet, "w", 1, 5)
    assert fleet.leave("w") == [batch]
    assert fleet.leave("w") == []
    assert (fleet.slots("n"), fleet.room("n"), fleet.open_slots("n")) == (0, 0, 0)
    assert fleet.end("w", 1, 5) is None
    assert fleet.victim("m", 0, apart=False, now=0.0, takes_s=lambda worker: 1.0) is None


def test_a_name_is_free_again_when_its_worker_was_lost() -> None:
    """Two workers of one name would share their lanes."""
    fleet = a_fleet()
    with pytest.raises(AssertionError, match="lost before it joins again"):
        join(fleet, "w", models=N)
    fleet.leave("w")
    join(fleet, "w", models=N)
    assert (fleet.slots("m"), fleet.slots("n")) == (1, 1)


def test_a_word_about_an_unknown_lane_frees_nothing() -> None:
    """Late, or nonsense."""
    fleet = a_fleet()
    begin(fleet, "w", 1, 5)
    for name, lane, number in [("w", 1, 6), ("w", 0, 5), ("w", 2, 5), ("w", -1, 5), ("x", 1, 5)]:
        assert fleet.end(name, lane, number) is None
    assert fleet.open_slots("m") == 2


def test_the_least_urgent_is_paused_where_a_lane_is_left() -> None:
    """Of the less urgent classes alone; of equals on the fastest worker."""
    fleet = Fleet()
    join(fleet, "slow", lanes=2, slots=1, cost=costs(slower=3.0))
    join(fleet, "fast", lanes=2, slots=1, cost=costs())
    join(fleet, "full", lanes=1, slots=1, cost=costs())
    slow = begin(fleet, "slow", 0, 1, level=2)
    fast = begin(fleet, "fast", 0, 2, level=2)
    begin(fleet, "full", 0, 3, level=3)

    def victim(level: int) -> Batch | None:
        return fleet.victim("m", level, apart=False, now=0.1, takes_s=lambda worker: worker.pace["m"])

    assert victim(1) is fast
    assert victim(2) is None, "the only one that is less urgent leaves no lane"
    fleet.pause(fast, 0.2)
    begin(fleet, "fast", 1, 4, level=1)
    assert victim(1) is slow
    assert victim(0) is slow, "no lane is left on the fast one"


def test_how_long_batches_take_corrects_what_a_worker_costs() -> None:
    """Unless they had to wait for their slot, or a member ended at nobody knows what time."""
    fleet = Fleet()
    join(fleet, "w", lanes=2, slots=1, cost=costs())
    worker = fleet.workers["w"]
    for number in range(40):
        batch = begin(fleet, "w", 0, number)
        fleet.end("w", 0, number)
        fleet.observe(batch, 2 * worker.alone_s("m", (10, 20.0)) / worker.costs["m"].theta)
    assert worker.costs["m"].theta == pytest.approx(2.0, rel=0.05)
    batch = begin(fleet, "w", 0, 100)
    batch.disturbed = True
    fleet.observe(batch, 1e3)
    batch = begin(fleet, "w", 1, 101) if fleet.end("w", 0, 100) else batch
    batch.members[0].generated = 0
    fleet.observe(batch, 1e3)
    assert worker.costs["m"].theta == pytest.approx(2.0, rel=0.05)
