"""Who runs when, where and with whom."""

from __future__ import annotations

import pytest

from headrace.contract.values import GREEDY, Priority, Sampling
from headrace.router.core.commands import Assignment, Command, Settle, Start
from headrace.router.core.events import BatchEnded, RequestArrived, WorkerDraining, WorkerLost
from tests.router.core.dialogue import (
    Dialogue,
    batches,
    costs,
    ended,
    failed,
    groups,
    joined,
    made,
    request,
    who,
)


def test_a_request_starts_on_a_free_lane_as_it_arrives() -> None:
    """All that the worker must know is in the command."""
    mesh = Dialogue(joined("w", lanes=2))
    assert mesh.tell(request("r")) == [
        Start(
            worker="w",
            lane=0,
            batch=1,
            model="m",
            sampling=GREEDY,
            assignments=(Assignment(number=2, request_id="r", attempt=1),),
        )
    ]


def test_nothing_starts_without_a_lane_that_serves_the_model() -> None:
    """A worker with another model, or one that leaves, is no lane."""
    mesh = Dialogue(joined("w", models="x"), joined("v"), WorkerDraining(worker="v"))
    assert mesh.tell(request("r")) == []
    assert mesh.scheduler.load("m").waiting == (0, 0, 1, 0)
    assert groups(mesh.tell(joined("u"))) == [["r"]]


def test_the_more_urgent_goes_first_and_then_the_older() -> None:
    """Class, then the broker's time of arrival, then the id; not the order in which this router heard of them."""
    mesh = Dialogue(
        request("young", arrived_s=9.0),
        request("old b", arrived_s=1.0),
        request("old a", arrived_s=1.0),
        request("bulk", arrived_s=0.0, priority=Priority.BATCH),
        request("high", arrived_s=8.0, priority=Priority.HIGH),
        request("realtime", arrived_s=9.5, priority=Priority.REALTIME),
    )
    batch = mesh.start(joined(max_batch=1))
    order = who(batch)
    for _ in range(5):
        (batch,) = batches(mesh.end(batch))
        order += who(batch)
    assert order == ["realtime", "high", "old a", "old b", "young", "bulk"]


def test_who_is_best_when_a_lane_frees_goes_whoever_was_best_before() -> None:
    """Late binding: work is bound to a lane that is free, not to one that will be."""
    mesh = Dialogue(joined(max_batch=1))
    running = mesh.start(request("running"))
    assert mesh.tell(request("waiting")) == []
    assert mesh.tell(request("urgent", priority=Priority.REALTIME, arrived_s=5.0)) == []
    assert groups(mesh.end(running)) == [["urgent"]]


def test_the_lane_that_frees_takes_the_first_that_it_can_serve() -> None:
    """The first in order needs a model that is busy elsewhere; it does not hold up the others."""
    mesh = Dialogue(joined("w", models="m"), joined("v", models="n"))
    mesh.start(request("a", model="m"))
    running = mesh.start(request("b", model="n"))
    mesh.tell(request("urgent", model="m", priority=Priority.REALTIME), request("later", model="n"))
    assert groups(mesh.end(running)) == [["later"]]


def test_lanes_of_the_emptiest_worker_go_first() -> None:
    """The worker with the largest share of its lanes free; of equal ones, the earliest to join."""
    mesh = Dialogue(joined("w", lanes=2), joined("v", lanes=4))
    places = [(start.worker, start.lane) for start in (mesh.start(request(str(index))) for index in range(6))]
    assert places == [("w", 0), ("v", 0), ("v", 1), ("w", 1), ("v", 2), ("v", 3)]


@pytest.mark.parametrize("slower", [1.05, 1.12, 1.15, 1.18, 1.21, 1.5, 3.0])
def test_no_slot_is_left_free_for_a_worker_that_has_one(slower: float) -> None:
    """However much slower the other is, and whichever of the two has the larger share of its slots free."""
    mesh = Dialogue(
        joined("fast", lanes=2, max_batch=1, cost=costs(step_s=0.008)),
        joined("slow", lanes=2, max_batch=1, cost=costs(step_s=0.008, slower=slower)),
    )
    first = mesh.start(request("first"))
    second = mesh.start(request("second"))
    assert first.worker == "fast"
    assert second.worker == ("slow" if slower < 1.1 else "fast")


def test_who_waits_apart_waits_for_what_runs_apart() -> None:
    """A faster worker that has a slot, and none for it, is not expected to take it at once."""
    mesh = Dialogue(
        joined("fast", lanes=2, max_batch=1, cost=costs()),
        joined("slow", lanes=2, max_batch=1, cost=costs(slower=1.5)),
    )
    assert mesh.start(request("first", losses=3, max_tokens=200)).worker == "fast"
    assert mesh.start(request("second", losses=3)).worker == "slow"


@pytest.mark.parametrize(
    ("waiting", "lanes", "max_batch", "sizes"),
    [
        (1, 4, 8, [1]),
        (4, 4, 8, [1, 1, 1, 1]),
        (5, 4, 8, [2, 1, 1, 1]),
        (10, 4, 8, [3, 3, 2, 2]),
        (10, 1, 8, [8]),
        (10, 3, 2, [2, 2, 2]),
    ],
)
def test_equals_are_spread_over_the_free_lanes(
    waiting: int, lanes: int, max_batch: int, sizes: list[int]
) -> None:
    """A lane takes ceil(compatible / free lanes), so that no lane idles while another batches."""
    mesh = Dialogue(*(request(f"{index:02}") for index in range(waiting)))
    started = groups(mesh.tell(joined(lanes=lanes, max_batch=max_batch)))
    assert [len(group) for group in started] == sizes
    order = [request_id for group in started for request_id in group]
    assert order == sorted(order), "the first in order go together"


@pytest.mark.parametrize(
    "other",
    [
        request("b", priority=Priority.HIGH),
        request("b", sampling=Sampling(temperature=0.7)),
        request("b", prompt_tokens=80),
        request("b", prompt_tokens=9, generated=70, max_tokens=90),
    ],
    ids=["class", "sampling", "length", "length after a resumption"],
)
def test_only_those_alike_share_a_batch(other: RequestArrived) -> None:
    """Another class or sampling, or a context that is much longer, waits for a lane of its own."""
    mesh = Dialogue(request("a"), other, request("c"))
    batches = groups(mesh.tell(joined(lanes=1)))
    batches += groups(mesh.tell(joined("v", lanes=1)))
    assert sorted(batches) == [["a", "c"], ["b"]]


def test_models_never_share_a_batch() -> None:
    """Though the worker serves both, and all else is equal."""
    mesh = Dialogue(request("a", model="m"), request("b", model="n"), request("c", model="m"))
    batch = mesh.start(joined(lanes=1, models="mn"))
    assert who(batch) == ["a", "c"]
    assert groups(mesh.end(batch)) == [["b"]]


def test_what_was_made_counts_as_context() -> None:
    """A resumed request of 4 + 6 tokens goes with fresh ones of 10."""
    mesh = Dialogue(request("a"), request("b", prompt_tokens=4, generated=6))
    assert groups(mesh.tell(joined())) == [["a", "b"]]


def test_one_token_prompts_run_alone() -> None:
    """They would make the engine return the others' prompts."""
    mesh = Dialogue(*(request(name, prompt_tokens=1) for name in "abc"))
    batch = mesh.start(joined(lanes=1))
    assert who(batch) == ["a"]
    assert groups(mesh.end(batch)) == [["b"]]


def test_a_request_with_two_losses_runs_alone() -> None:
    """If it is what fails, it takes nobody along; and nobody takes it along."""
    mesh = Dialogue(joined(lanes=1))
    suspect = mesh.start(request("suspect", arrived_s=1.0))
    for _ in range(2):
        mesh.tell(failed(suspect.assignments[0]))
        (suspect,) = batches(mesh.tell(ended(suspect)))
    mesh.tell(failed(suspect.assignments[0]), *(request(name) for name in "ab"))
    (pair,) = batches(mesh.tell(ended(suspect)))
    assert who(pair) == ["a", "b"], "older equals leave it out"
    mesh.tell(request("z", arrived_s=2.0))
    assert groups(mesh.end(pair)) == [["suspect"]], "it leaves younger equals out"


def test_those_that_flee_together_with_what_kills_workers_are_not_given_up_with_it() -> None:
    """After some losses each waits for a worker that runs no other of its like."""
    mesh = Dialogue(joined("w0", lanes=8))
    mesh.tell(*(request(name, arrived_s=float(at)) for at, name in enumerate(["poison", "a", "b"])))

    def comes_back(life: int) -> list[Command]:
        return mesh.tell(WorkerLost(worker=f"w{life - 1}"), joined(f"w{life}", lanes=8))

    assert groups(comes_back(1)) == [["poison"], ["a"], ["b"]]
    assert groups(comes_back(2)) == [["poison"], ["a"], ["b"]]
    assert groups(comes_back(3)) == [["poison"]]
    assert groups(mesh.tell(request("fresh", arrived_s=9.0))) == [["fresh"]], "it does not mind"
    assert groups(comes_back(4)) == [["poison"], ["fresh"]]
    commands = comes_back(5)
    assert [end.request_id for end in commands if isinstance(end, Settle)] == ["poison"]
    first, fresh = batches(commands)
    assert (who(first), who(fresh)) == (["a"], ["fresh"])
    assert groups(mesh.end(first)) == [["b"]]


def test_a_word_about_another_batch_frees_no_lane() -> None:
    """Of a lane, a batch or a worker that is not, or is no more."""
    mesh = Dialogue(joined(lanes=1))
    running = mesh.start(request("running"))
    mesh.tell(request("waiting"))
    for worker, lane, batch in [
        ("w", 0, running.batch + 1),
        ("w", 1, running.batch),
        ("w", -1, running.batch),
        ("nobody", 0, running.batch),
    ]:
        assert mesh.tell(BatchEnded(worker=worker, lane=lane, batch=batch)) == []
    assert groups(mesh.end(running)) == [["waiting"]]


def test_numbers_of_batches_and_assignments_are_never_used_twice() -> None:
    """They fence late frames, so none may come back."""
    mesh = Dialogue(*(request(f"{index:02}") for index in range(20)))
    started = batches(mesh.tell(joined(max_batch=3)))
    for batch in started:
        started += batches(mesh.end(batch))
    numbers = [
        number for batch in started for number in (batch.batch, *(a.number for a in batch.assignments))
    ]
    assert len(numbers) == 20 + len(started)
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(("made_some", "expected"), [(False, ["b"]), (True, ["b", "c"])])
def test_a_long_prefill_needs_a_batch_that_could_make_room(made_some: bool, expected: list[str]) -> None:
    """Urgent work would have to wait for it, unless another batch of the worker can be held at its next step."""
    slow = costs(step_s=0.1, prefill_s=0.04)  # 0.36 s for one prompt, 0.72 s for two together
    mesh = Dialogue(joined(lanes=4, slots=2, cost=slow))
    running, first = mesh.start(request("running")), mesh.start(request("first"))
    mesh.tell(request("b"), request("c"))
    if made_some:
        mesh.tell(made(running.assignments[0], 0))
    assert groups(mesh.end(first)) == [expected]
