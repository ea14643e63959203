"""Static prompts in the scheduler: who shares a batch, which worker gets it, and what it is taken to cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.router.core.cost import CostModel
from headrace.router.core.events import Event, ModelCame, ModelWent, WorkerLost
from headrace.router.core.kept import AfterStatic
from tests.router.core.dialogue import Dialogue, batches, costs, joined, request, who

LONG = {"prompt_tokens": 300, "static_tokens": 250}
COSTS = costs()


def test_only_requests_with_one_static_prompt_share_a_batch() -> None:
    """Those with another, or none, go apart, though they are as long; the batch says how many tokens it is."""
    mesh = Dialogue(joined(max_batch=8, cost=COSTS))
    first = mesh.start(request("first"))
    mesh.tell(*(request(f"a{n}", static="a", **LONG) for n in range(3)))
    mesh.tell(request("b", static="b", **LONG), request("plain", prompt_tokens=300))
    (batch,) = batches(mesh.end(first))
    assert (who(batch), batch.static_tokens, batch.kept) == (["a0", "a1", "a2"], 250, False)
    (other,) = batches(mesh.end(batch))
    assert (who(other), other.static_tokens) == (["b"], 250)
    (plain,) = batches(mesh.end(other))
    assert (who(plain), plain.static_tokens) == (["plain"], 0)


def test_a_request_goes_to_the_worker_that_has_its_static_prompt() -> None:
    """Of two equal ones, though the other joined first and is as free."""
    mesh = Dialogue(joined("w1", cost=COSTS), joined("w2", cost=COSTS))
    occupied = mesh.start(request("first"))
    assert occupied.worker == "w1"
    there = mesh.start(request("a", static="a", **LONG))
    assert (there.worker, there.kept) == ("w2", False)
    mesh.end(there)
    mesh.end(occupied)
    again = mesh.start(request("b", static="a", **LONG))
    assert (again.worker, again.kept) == ("w2", True)
    other = mesh.start(request("c"))
    assert other.worker == "w1"


def test_a_slower_worker_that_has_it_is_taken_where_that_makes_it_the_faster_one() -> None:
    """A long prefill spared is worth more than somewhat slower steps."""
    mesh = Dialogue(joined("slow", cost=costs(prefill_s=0.01, slower=1.05)), slower=1.2)
    mesh.end(mesh.start(request("a", static="a", **LONG)))
    mesh.tell(joined("fast", cost=costs(prefill_s=0.01)))
    assert mesh.start(request("b", static="a", max_tokens=2, **LONG)).worker == "slow"
    assert mesh.start(request("c", prompt_tokens=300)).worker == "fast"


def test_a_worker_that_comes_back_has_nothing() -> None:
    """Its engine is another one."""
    mesh = Dialogue(joined(cost=COSTS))
    mesh.end(mesh.start(request("a", static="a", **LONG)))
    mesh.tell(WorkerLost(worker="w"), joined(cost=COSTS))
    assert mesh.start(request("b", static="a", **LONG)).kept is False


@pytest.mark.parametrize(
    "changes",
    [
        [ModelWent(worker="w", model="m"), ModelCame(worker="w", model="m", cost=COSTS)],
        [ModelCame(worker="w", model="m", cost=COSTS)],
    ],
)
def test_a_model_that_is_unloaded_takes_its_static_prompts_with_it(changes: list[Event]) -> None:
    """Whether it went, or another version has taken its place: the next batch computes them anew."""
    mesh = Dialogue(joined(cost=COSTS))
    mesh.end(mesh.start(request("a", static="a", **LONG)))
    mesh.tell(*changes)
    assert mesh.start(request("b", static="a", **LONG)).kept is False


@given(st.integers(1, 8), st.integers(1, 500), st.integers(2, 500), st.booleans())
def test_a_static_prompt_never_makes_a_prefill_dearer_than_computing_it_alone(
    batch: int, static: int, rest: int, kept: bool
) -> None:
    """And where it is kept, never dearer than without it; steps cost what they did."""
    base = CostModel(COSTS)
    after = AfterStatic(base, static, kept)
    context = static + rest
    assert after.prefill(batch, context) <= base.prefill(batch, context) + base.prefill(1, static)
    if kept:
        assert after.prefill(batch, context) <= base.prefill(batch, context)
    assert after.prefill(batch, context) >= base.prefill(batch, 1) > 0
    assert after.step(batch, context) == pytest.approx(base.step(batch, context))
    assert after.steps(batch, context, 5) == pytest.approx(base.steps(batch, context, 5))
