"""How long a request takes."""

from __future__ import annotations

import pytest

from headrace.router.core.estimate import ALPHA, Estimate
from tests.router.core.dialogue import Dialogue, completed, ended, joined, request


def test_nothing_is_known_at_first() -> None:
    """And nothing can be said where no lane is."""
    estimate = Estimate()
    assert estimate.seconds_per_request("m", 4) == 0.0
    estimate.observe("m", 10.0, 2)
    assert estimate.seconds_per_request("m", 0) == 0.0
    assert estimate.seconds_per_request("n", 4) == 0.0


def test_a_batch_is_shared_by_its_entries_and_the_lanes_by_the_requests() -> None:
    """10 s for 2 entries: a lane takes one each 5 s, four lanes one each 1.25 s."""
    estimate = Estimate()
    estimate.observe("m", 10.0, 2)
    assert estimate.seconds_per_request("m", 1) == 5.0
    assert estimate.seconds_per_request("m", 4) == 1.25


def test_an_old_load_is_forgotten_within_twenty_batches() -> None:
    """To 1.2 %, and at once what was never known."""
    estimate = Estimate()
    estimate.observe("m", 100.0, 1)
    estimate.observe("m", 0.0, 1)
    assert estimate.seconds_per_request("m", 1) == pytest.approx(100.0 * (1 - ALPHA))
    for _ in range(19):
        estimate.observe("m", 0.0, 1)
    assert estimate.seconds_per_request("m", 1) < 100.0 * 0.012


def test_the_scheduler_learns_from_the_batches_that_end() -> None:
    """From the start to the end of a batch, over its entries, for all lanes of the model."""
    mesh = Dialogue(request("a"), request("b"))
    batch = mesh.start(joined(lanes=1))
    mesh.tell(joined("v", lanes=3))
    assert mesh.scheduler.load("m").seconds_per_request == 0.0
    mesh.end(batch, at=8.0)
    load = mesh.scheduler.load("m")
    assert load.seconds_per_request == 8.0 / 2 / 4
    assert (load.lanes, load.free_lanes) == (4, 4)


def test_only_the_batch_that_a_lane_runs_teaches_anything() -> None:
    """A late word about an earlier one is no observation."""
    mesh = Dialogue(joined())
    batch = mesh.start(request("a"))
    mesh.tell(completed(batch.assignments[0]))
    mesh.tell(ended(batch), at=4.0)
    mesh.tell(ended(batch), at=400.0)
    assert mesh.scheduler.load("m").seconds_per_request == 4.0
