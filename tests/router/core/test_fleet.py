"""Workers and their lanes."""

from __future__ import annotations

import pytest

from headrace.router.core.fleet import Fleet, RunningBatch

M, N, MN = frozenset("m"), frozenset("n"), frozenset("mn")


def batch(number: int = 1, *, apart: bool = False) -> RunningBatch:
    return RunningBatch(batch=number, model="m", started_s=0.0, size=1, assignments=(number,), apart=apart)


def picked(fleet: Fleet, model: str = "m", *, apart: bool = False) -> tuple[str, int] | None:
    found = fleet.pick(model, apart=apart)
    return None if found is None else (found[0].name, found[1])


def a_fleet() -> Fleet:
    fleet = Fleet()
    fleet.join("w", lanes=2, max_batch=4, models=MN)
    fleet.join("v", lanes=1, max_batch=8, models=M)
    return fleet


def test_lanes_and_room_are_those_of_the_model() -> None:
    """Room is the entries that could run at once."""
    fleet = a_fleet()
    assert (fleet.lanes("m"), fleet.lanes("n"), fleet.lanes("x")) == (3, 2, 0)
    assert (fleet.room("m"), fleet.room("n"), fleet.room("x")) == (16, 8, 0)
    assert fleet.free_lanes("m") == 3


def test_room_follows_the_workers_that_come_and_go() -> None:
    """It is remembered between them, not beyond."""
    fleet = a_fleet()
    assert fleet.room("m") == 16
    fleet.join("u", lanes=1, max_batch=1, models=M)
    assert fleet.room("m") == 17
    fleet.drain("v")
    assert fleet.room("m") == 9
    fleet.leave("w")
    assert fleet.room("m") == 1


def test_an_occupied_lane_is_not_free_until_its_batch_ends() -> None:
    """Lanes stay lanes, and room stays room, while they are busy."""
    fleet = a_fleet()
    fleet.occupy("w", 0, batch(7))
    assert (fleet.lanes("m"), fleet.free_lanes("m"), fleet.room("m")) == (3, 2, 16)
    assert fleet.free("w", 0, 7) == batch(7)
    assert fleet.free_lanes("m") == 3
    assert fleet.free("w", 0, 7) is None, "it has ended once"


def test_a_worker_runs_one_batch_that_is_apart() -> None:
    """Another waits for another worker, whatever lanes are free; what is not apart does not mind."""
    fleet = a_fleet()
    fleet.join("u", lanes=3, max_batch=1, models=M)
    fleet.occupy("w", 0, batch(1, apart=True))
    fleet.occupy("v", 0, batch(2))
    assert picked(fleet, apart=True) == ("u", 0)
    fleet.occupy("u", 0, batch(3, apart=True))
    assert picked(fleet, apart=True) is None
    assert picked(fleet) == ("u", 1)
    fleet.free("w", 0, 1)
    assert picked(fleet, apart=True) == ("w", 0)


def test_a_lane_is_never_booked_twice() -> None:
    """That would be our own bug."""
    fleet = a_fleet()
    fleet.occupy("v", 0, batch())
    with pytest.raises(AssertionError, match="only a free lane"):
        fleet.occupy("v", 0, batch(2))


def test_the_emptiest_worker_is_picked_and_then_the_earliest() -> None:
    """By the share of its lanes that is free; first lane first."""
    fleet = a_fleet()
    assert picked(fleet) == ("w", 0)
    fleet.occupy("w", 0, batch(1))
    assert picked(fleet) == ("v", 0)
    fleet.occupy("v", 0, batch(2))
    assert picked(fleet) == ("w", 1)
    fleet.occupy("w", 1, batch(3))
    assert picked(fleet) is None
    fleet.free("v", 0, 2)
    fleet.free("w", 0, 1)
    fleet.free("w", 1, 3)
    assert picked(fleet) == ("w", 0), "the earliest to join, not to become free"
    assert picked(fleet, "n") == ("w", 0)
    assert picked(fleet, "x") is None


def test_a_draining_worker_serves_nothing_and_still_ends_its_batches() -> None:
    """Its lanes do not come back."""
    fleet = a_fleet()
    fleet.occupy("w", 0, batch(5))
    fleet.drain("w")
    fleet.drain("nobody")
    assert (fleet.lanes("m"), fleet.free_lanes("m"), fleet.room("m"), fleet.room("n")) == (1, 1, 8, 0)
    assert fleet.free("w", 0, 5) == batch(5)
    assert (fleet.free_lanes("m"), picked(fleet, "n")) == (1, None)


def test_a_lost_worker_leaves_its_batches() -> None:
    """Each once; and one that was never there leaves none."""
    fleet = a_fleet()
    fleet.occupy("w", 1, batch(5))
    assert fleet.leave("w") == [batch(5)]
    assert fleet.leave("w") == []
    assert (fleet.lanes("n"), fleet.room("n"), fleet.free_lanes("n"), picked(fleet, "n")) == (0, 0, 0, None)
    assert fleet.free("w", 1, 5) is None


def test_a_name_is_free_again_when_its_worker_was_lost() -> None:
    """Two workers of one name would share their lanes."""
    fleet = a_fleet()
    with pytest.raises(AssertionError, match="lost before it joins again"):
        fleet.join("w", lanes=1, max_batch=1, models=N)
    fleet.leave("w")
    fleet.join("w", lanes=1, max_batch=1, models=N)
    assert (fleet.lanes("m"), fleet.lanes("n")) == (1, 1)


def test_a_word_about_an_unknown_lane_frees_nothing() -> None:
    """Late, or nonsense."""
    fleet = a_fleet()
    fleet.occupy("w", 1, batch(5))
    for name, lane, number in [("w", 1, 6), ("w", 0, 5), ("w", 2, 5), ("w", -1, 5), ("x", 1, 5)]:
        assert fleet.free(name, lane, number) is None
    assert fleet.free_lanes("m") == 2
