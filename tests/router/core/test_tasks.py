"""What the scheduler does otherwise with requests to embed and to translate."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.contract.costs import CostGrid, ModelCost
from headrace.contract.values import Failure, FinishReason, OutcomeKind, Sampling, Task
from headrace.router.core.commands import Requeued, Settle, Start, Stop
from headrace.router.core.cost import CostModel
from headrace.router.core.events import (
    CancelAsked,
    EntryCompleted,
    EntryFailed,
    RequestArrived,
    Woke,
    WorkerJoined,
    WorkerLost,
)
from headrace.router.core.lockstep import duration_s, first_token_s, moments_s
from tests.router.core.dialogue import Dialogue, batches, costs, ended, groups, joined, request, who

PASS = ModelCost(
    step=CostGrid(batches=(1,), contexts=(1,), seconds=(1e-6,)),
    prefill=CostGrid(batches=(1, 16), contexts=(10, 100), seconds=(0.002, 0.011, 0.017, 0.161)),
)
"""A text takes 1 ms and 0.1 ms a token, and in company 1 ms less, but for the first."""

EVEN = ModelCost(
    step=PASS.step, prefill=CostGrid(batches=(1, 2), contexts=(1, 2), seconds=(0.001, 0.001, 0.002, 0.002))
)
"""A text takes 1 ms, whatever its length and its company."""


def texts(request_id: str, count: int, tokens: int, **changes: Any) -> RequestArrived:
    """A request to embed `count` texts of `tokens` tokens each."""
    return request(
        request_id,
        task=Task.EMBED,
        texts=count,
        prompt_tokens=count * tokens,
        max_tokens=1,
        **changes,
    )


def encoder(worker: str = "w", cost: ModelCost | None = PASS, **how: Any) -> WorkerJoined:
    """A worker whose model embeds."""
    told = joined(worker, cost=cost, **how)
    return WorkerJoined(
        worker=worker,
        lanes=told.lanes,
        slots=told.slots,
        max_batch=told.max_batch,
        models=told.models,
        costs=told.costs,
        tasks={"m": Task.EMBED},
    )


def embedded(assignment: Any, count: int) -> EntryCompleted:
    return EntryCompleted(
        assignment=assignment.number, finish_reason=FinishReason.END, vectors=(b"1234",) * count
    )


def test_a_batch_of_texts_takes_one_pass_over_all_of_them() -> None:
    """No step, no lockstep: of so many texts, of so many tokens on average; all get their vectors at its end."""
    model = CostModel(PASS, Task.EMBED)
    assert duration_s(model, [(10, 1.0)]) == pytest.approx(0.002)
    assert duration_s(model, [(10, 16.0)]) == pytest.approx(0.017)
    assert duration_s(model, [(10, 8.0), (100, 8.0)]) == pytest.approx(model.prefill(16, 55.0))
    assert moments_s(model, [(10, 8.0), (10, 8.0)]) == [(model.prefill(16, 10.0),) * 2] * 2
    assert first_token_s(model, (10, 16.0)) == pytest.approx(0.017)


def test_a_translation_reads_all_sources_at_once_padded_to_the_longest() -> None:
    """A shorter one is not worked in token by token: it costs what the longest does, and none waits for another."""
    model, same = CostModel(costs(), Task.TRANSLATE), CostModel(costs())
    assert duration_s(model, [(10, 5.0), (40, 5.0)]) == duration_s(same, [(40, 5.0), (40, 5.0)])
    assert moments_s(model, [(10, 5.0), (40, 5.0)]) == moments_s(same, [(40, 5.0), (40, 5.0)])


def test_texts_of_near_length_go_together_where_that_saves_time() -> None:
    """By the measured cost of one pass; whoever is much longer has a pass of its own."""
    mesh = Dialogue(
        texts("short", 1, 10),
        texts("short too", 1, 12),
        texts("z long", 1, 400),
        max_skew=64,
    )
    batch = mesh.start(encoder(max_batch=4))
    assert who(batch) == ["short", "short too"]


def test_nobody_goes_along_who_saves_nothing() -> None:
    """A pass that is as long as its texts one after the other is not made longer."""
    linear = ModelCost(
        step=PASS.step, prefill=CostGrid(batches=(1, 2), contexts=(1, 2), seconds=(1.0, 2.0, 2.0, 4.0))
    )
    mesh = Dialogue(texts("a", 1, 10), texts("b", 1, 10))
    assert groups(mesh.tell(encoder(cost=linear))) == [["a"]]


def test_texts_go_along_for_as_long_as_company_may_take() -> None:
    """However little their equals' cost says of it, as they are sorted by length together; no further."""
    many = [texts(str(number), 100, 10) for number in range(9)]
    mesh = Dialogue(*many, company_s=0.32)
    batch = mesh.start(encoder(cost=EVEN, max_batch=16))
    assert who(batch) == ["0", "1", "2"]


def test_lanes_share_the_texts_that_wait_with_those_that_will_be_free() -> None:
    """A batch is its lane's share of what is left, so that all lanes end at about the same time."""
    mesh = Dialogue(encoder(cost=EVEN, lanes=2, slots=2, max_batch=16), company_s=100.0)
    first, second = mesh.start(texts("a", 1, 10)), mesh.start(texts("b", 1, 10))
    for number in range(10):
        mesh.tell(texts(str(number), 1, 10))
    sizes = []
    for batch in (first, second):
        mesh.tell(*(embedded(assignment, 1) for assignment in batch.assignments))
        (batch,) = batches(mesh.tell(ended(batch)))
        sizes.append(len(batch.assignments))
    assert sizes == [5, 3]


def test_a_text_of_one_token_has_company() -> None:
    """The engine's trap with a prompt of one token is of decoders alone."""
    mesh = Dialogue(texts("one", 1, 1), texts("two", 1, 2))
    assert len(groups(mesh.tell(encoder()))[0]) == 2


def test_vectors_become_the_outcome() -> None:
    """Once, with as many as there are texts."""
    mesh = Dialogue(encoder())
    batch = mesh.start(texts("r", 3, 10))
    (settle,) = mesh.tell(embedded(batch.assignments[0], 3))
    assert settle == Settle(
        request_id="r",
        kind=OutcomeKind.COMPLETED,
        finish_reason=FinishReason.END,
        vectors=(b"1234",) * 3,
    )
    assert mesh.tell(embedded(batch.assignments[0], 3)) == []


@pytest.mark.parametrize("count", [0, 2, 4])
def test_another_number_of_vectors_is_a_lost_attempt(count: int) -> None:
    """Its worker makes no sense, and the request waits for the next try."""
    mesh = Dialogue(encoder())
    batch = mesh.start(texts("r", 3, 10))
    answer = mesh.tell(embedded(batch.assignments[0], count))
    assert [type(command) for command in answer] == [Stop, Requeued]
    assert groups(mesh.tell(ended(batch))) == [["r"]]


def test_vectors_of_what_was_not_to_be_embedded_are_a_lost_attempt() -> None:
    """The same for a generation."""
    mesh = Dialogue(joined())
    batch = mesh.start(request("r"))
    answer = mesh.tell(embedded(batch.assignments[0], 1))
    assert [type(command) for command in answer] == [Stop, Requeued]


def test_a_pass_that_took_longer_corrects_the_cost() -> None:
    """As a batch of tokens does; one that was cancelled says nothing."""
    mesh = Dialogue(encoder())
    for _ in range(40):
        batch = mesh.start(texts("r", 16, 10))
        mesh.now += 2 * 0.017
        mesh.tell(embedded(batch.assignments[0], 16))
        mesh.tell(ended(batch))
        mesh.scheduler._lives.forget("r")
    theta = mesh.scheduler._fleet.workers["w"].costs["m"].theta
    assert theta == pytest.approx(2.0, rel=0.1)


def test_what_a_request_takes_is_known_by_request_and_longer_than_its_worker() -> None:
    """Of many texts as of one: placement weighs the model by it when nobody serves it any more."""
    mesh = Dialogue(encoder())
    batch = mesh.start(texts("r", 16, 10))
    mesh.now += 0.25
    mesh.tell(embedded(batch.assignments[0], 16))
    mesh.tell(ended(batch))
    assert mesh.scheduler.work_s("m") == pytest.approx(0.25)
    mesh.tell(WorkerLost(worker="w"))
    assert mesh.scheduler.work_s("m") == pytest.approx(0.25)
    assert mesh.scheduler.work_s("n") == 0.0


def test_texts_are_stopped_at_their_deadline() -> None:
    """Between two pieces; what its worker says of them later changes nothing, and costs no attempt."""
    mesh = Dialogue(encoder())
    start, _ = mesh.tell(texts("r", 3, 10, deadline_s=5.0))
    assert isinstance(start, Start)
    stop, settle = mesh.tell(Woke(), at=5.25)
    assert stop == Stop(worker="w", assignment=start.assignments[0].number)
    assert isinstance(settle, Settle)
    assert (settle.kind, settle.vectors) == (OutcomeKind.EXPIRED, ())
    assert mesh.tell(embedded(start.assignments[0], 3)) == []


def test_a_cancellation_ends_texts_wherever_they_are() -> None:
    """One that waits, and one that runs: the other members of its batch go on."""
    mesh = Dialogue(texts("a", 1, 10), texts("b", 1, 10))
    batch = mesh.start(encoder(max_batch=4))
    assert who(batch) == ["a", "b"]
    mesh.tell(texts("c", 1, 10))
    (settle,) = mesh.tell(CancelAsked(tenant="t", request_id="c"))
    assert isinstance(settle, Settle)
    stop, settle = mesh.tell(CancelAsked(tenant="t", request_id="a"))
    assert stop == Stop(worker="w", assignment=batch.assignments[0].number)
    assert isinstance(settle, Settle)
    assert settle.kind is OutcomeKind.CANCELLED
    (settle,) = mesh.tell(embedded(batch.assignments[1], 1))
    assert isinstance(settle, Settle)
    assert settle.kind is OutcomeKind.COMPLETED


def test_texts_that_fail_everywhere_become_a_dead_letter() -> None:
    """After as many attempts as anything else, with the last error."""
    mesh = Dialogue(encoder(), max_attempts=2)
    batch = mesh.start(texts("r", 3, 10))
    failure = Failure(code="ENGINE_FAILED", message="no luck")
    (again,) = mesh.tell(EntryFailed(assignment=batch.assignments[0].number, failure=failure))
    assert isinstance(again, Requeued)
    (batch,) = batches(mesh.tell(ended(batch)))
    (settle,) = mesh.tell(EntryFailed(assignment=batch.assignments[0].number, failure=failure))
    assert isinstance(settle, Settle)
    assert (settle.kind, settle.dead) == (OutcomeKind.FAILED, True)
    assert settle.failure is not None
    assert settle.failure.code == "TOO_MANY_ATTEMPTS"


def test_tenants_pay_for_the_tokens_of_their_texts() -> None:
    """For all of them, and for no output: so many short texts cost what a long one does."""
    mesh = Dialogue(encoder(), prompt_weight=1.0, output_weight=1000.0)
    batch = mesh.start(texts("r", 16, 10))
    held = mesh.scheduler._lives.get("r")
    assert held is not None
    assert held.charged == 160.0
    mesh.tell(embedded(batch.assignments[0], 16))


def test_different_numbers_of_beams_do_not_share_a_batch() -> None:
    """The engine has one search for all."""
    beams = [request(name, sampling=Sampling(beam_size=size), task=Task.TRANSLATE) for name, size in BEAMS]
    mesh = Dialogue(*beams)
    (batch,) = batches(mesh.tell(joined(max_batch=4)))
    assert who(batch) == ["a", "c"]


BEAMS = (("a", 4), ("b", 1), ("c", 4))
