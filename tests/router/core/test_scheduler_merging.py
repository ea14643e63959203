"""What goes on in a larger batch, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.contract.values import Priority, Sampling
from headrace.router.core.commands import Command, Pause, Regrouped, Start, Stop, WakeAt
from headrace.router.core.events import RequestArrived, Woke, WorkerLost
from tests.router.core.dialogue import (
    Dialogue,
    batches,
    completed,
    costs,
    delivered,
    ended,
    groups,
    joined,
    made,
    request,
    who,
)

LONG = Sampling(ignore_end=True)
COSTS = costs(step_s=0.02, per_entry_s=0.001)
"""A batch of two takes 22 ms a step, and two batches of one 42 ms."""


def long(request_id: str, **changes: Any) -> RequestArrived:
    """One that makes 200 tokens, no fewer."""
    return request(request_id, **{"sampling": LONG, "max_tokens": 200, **changes})


def running(**settings: Any) -> tuple[Dialogue, Start]:
    """`a` runs in the only slot, and has made two tokens by 0.05 s."""
    mesh = Dialogue(joined(lanes=3, slots=1, cost=COSTS), **settings)
    batch = mesh.start(long("a"))
    mesh.tell(made(batch.assignments[0], 0, 2), at=0.05)
    return mesh, batch


def wake(commands: list[Command]) -> float:
    (at,) = (command.at_s for command in commands if isinstance(command, WakeAt))
    return at


def merged(mesh: Dialogue, arrived: RequestArrived) -> list[Command]:
    """What is commanded when the waste has reached its price."""
    return mesh.tell(Woke(), at=wake(mesh.tell(arrived)))


def test_a_batch_goes_on_with_who_waits_once_that_has_cost_its_price() -> None:
    """What it made counts, late words of the old batch do not, and its lane is free when it says so."""
    mesh, old = running()
    first = wake(mesh.tell(long("b", arrived_s=0.05)))
    assert first > 0.05
    assert wake(mesh.tell(Woke(), at=first - 0.001)) == pytest.approx(first)
    stop, regrouped, start = mesh.tell(Woke(), at=first)
    assert stop == Stop(worker="w", assignment=old.assignments[0].number)
    assert regrouped == Regrouped(request_id="a")
    (new,) = batches([start])
    assert who(new) == ["a", "b"]
    assert new.lane != old.lane
    assert new.assignments[0].attempt == 2
    assert mesh.tell(made(old.assignments[0], 2), ended(old)) == []
    assert delivered(mesh.tell(made(new.assignments[0], 2), made(new.assignments[1], 0))) == [2, 0]


def test_the_waste_reaches_the_price_no_earlier_than_the_second_test_says() -> None:
    """The price is the prefill of two of twelve tokens and ten less that of ten; a second apart wastes 20 of 21 ms."""
    mesh, _ = running()
    price_s = 2 * 9 * 0.001 - 9 * 0.001 + 2 * 0.022
    at_s = 0.05 + price_s / ((0.021 + 0.021 - 0.022) / 0.021)
    assert wake(mesh.tell(long("b", arrived_s=0.05))) == pytest.approx(at_s, rel=0.02)


@pytest.mark.parametrize(
    ("settings", "other"),
    [
        ({"merge_gain": float("inf")}, {}),
        ({"merge_gain": 2.0}, {}),
        ({"max_skew": 0}, {"prompt_tokens": 12}),
        ({"moves": 0}, {}),
        ({}, {"prompt_tokens": 200}),
        ({}, {"sampling": Sampling(temperature=0.5, ignore_end=True)}),
        ({}, {"priority": Priority.BATCH}),
        ({}, {"prompt_tokens": 1}),
        ({"token_s": (0.0215,) * 4}, {}),
    ],
)
def test_others_wait_for_the_slot(settings: dict[str, Any], other: dict[str, Any]) -> None:
    """Who is not wanted, not near, not alike, or would make the batch miss an objective."""
    mesh, _ = running(**settings)
    assert mesh.tell(long("b", **other)) == []
    assert mesh.tell(Woke(), at=1.0) == []


def test_a_penalty_on_repetition_is_not_forgotten() -> None:
    """It sees what was made since the batch began."""
    penalty = Sampling(ignore_end=True, repetition_penalty=1.2)
    mesh = Dialogue(joined(lanes=3, slots=1, cost=COSTS))
    batch = mesh.start(long("a", sampling=penalty))
    mesh.tell(made(batch.assignments[0], 0, 2), at=0.05)
    assert mesh.tell(long("b", sampling=penalty)) == []


def test_a_prefill_is_not_stopped() -> None:
    """Before its first token a batch is left alone."""
    mesh = Dialogue(joined(lanes=3, slots=1, cost=COSTS))
    mesh.start(long("a"))
    assert mesh.tell(long("b"), at=0.001) == []


def test_a_member_without_a_token_is_not_stopped_either() -> None:
    """Its prompt is worked in while others have tokens already; it would wait for its first one anew."""
    mesh, old = running()
    (new,) = batches(merged(mesh, long("b")))
    mesh.tell(ended(old), made(new.assignments[0], 2), at=0.3)
    assert mesh.tell(long("c", arrived_s=0.3)) == []
    mesh.tell(made(new.assignments[1], 0), at=0.31)
    (larger,) = batches(mesh.tell(long("d", arrived_s=1.5), at=1.5))
    assert who(larger) == ["a", "b", "c", "d"]


def test_without_a_measurement_or_a_lane_nothing_is_merged() -> None:
    """A guess is no reason to compute anything again."""
    for worker in (joined(lanes=3, slots=1), joined(lanes=1, cost=COSTS)):
        mesh = Dialogue(worker)
        batch = mesh.start(long("a"))
        mesh.tell(made(batch.assignments[0], 0, 2), at=0.05)
        assert mesh.tell(long("b")) == []


def test_a_request_moves_so_many_times_only() -> None:
    """Then it is left in peace."""
    mesh, _ = running(moves=1)
    (new,) = batches(merged(mesh, long("b")))
    for assignment in new.assignments:
        mesh.tell(made(assignment, 2 if assignment.request_id == "a" else 0))
    assert mesh.tell(long("c")) == []


def test_who_has_ended_does_not_come_along() -> None:
    """Nor does it hold its place."""
    mesh = Dialogue(joined(lanes=3, slots=1, cost=COSTS, max_batch=2))
    first = mesh.start(request("first"))
    mesh.tell(long("x"), long("y"))
    (batch,) = batches(mesh.end(first))
    x, y = batch.assignments
    mesh.tell(made(x, 0, 2), made(y, 0, 2), completed(x), at=0.3)
    assert groups(merged(mesh, long("b", arrived_s=0.3))) == [["y", "b"]]


def test_a_lost_worker_loses_each_once() -> None:
    """Though two of its lanes knew the request."""
    mesh, _ = running()
    merged(mesh, long("b"))
    lost = mesh.tell(WorkerLost(worker="w"))
    assert len(lost) == 2
    again = batches(mesh.tell(joined("v", lanes=3, slots=1, cost=COSTS)))
    assert sorted(name for batch in again for name in who(batch)) == ["a", "b"]


def test_the_merged_batch_can_be_paused_and_the_old_one_not() -> None:
    """It has the slot."""
    mesh, old = running()
    (new,) = batches(merged(mesh, long("b")))
    pause = mesh.tell(request("urgent", priority=Priority.REALTIME))[0]
    assert pause == Pause(worker="w", batch=new.batch)
    assert new.batch != old.batch
