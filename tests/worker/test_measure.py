"""Measuring: which cells of the grids are measured, what they say, and what is done when time is short."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.contract.costs import CostGrid, check_cost
from headrace.contract.values import Sampling
from headrace.models.fake import FakeTiming
from headrace.worker.engine import Engine, OnToken
from headrace.worker.fake_engine import FakeEngine
from headrace.worker.grids import GridPlan, measure_grids
from headrace.worker.measure import WARM_UP_STEPS, measure_cell
from headrace.worker.trial import measure_lane_memory, measure_rate

VOCAB_SIZE, END_ID = 258, 257
STEP_S, PER_ENTRY_S, PER_TOKEN_S = 0.001, 0.004, 0.0005


@dataclass
class Watched:
    """The fake engine, which notes every batch: entries, context, how many run beside it."""

    engine: Engine
    batches: list[tuple[int, int]] = field(default_factory=list)
    most_at_once: int = 0
    _running: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        max_new: int,
        on_token: OnToken,
        static_tokens: int = 0,
    ) -> None:
        with self._lock:
            self.batches.append((len(prompts), len(prompts[0])))
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        self.engine.run(prompts, sampling=sampling, max_new=max_new, on_token=on_token)
        with self._lock:
            self._running -= 1

    def close(self) -> None:
        pass


@dataclass
class Model:
    """What is measured of a model."""

    engine: Engine
    vocab_size: int = VOCAB_SIZE
    context_length: int = 4096
    end_ids: Collection[int] = (END_ID,)


def model(timing: FakeTiming | None = None, **more: Any) -> Model:
    timing = timing or FakeTiming(
        step_s=STEP_S, step_s_per_entry=PER_ENTRY_S, prefill_s_per_token=PER_TOKEN_S
    )
    return Model(FakeEngine(timing, vocab_size=VOCAB_SIZE, end_id=END_ID), **more)


def cells(grid: CostGrid) -> dict[tuple[int, int], float]:
    keys = [(batch, context) for batch in grid.batches for context in grid.contexts]
    return dict(zip(keys, grid.seconds, strict=True))


class Clock:
    """Time that passes by as much as each cell is said to take."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_the_grids_are_those_asked_for_and_rise() -> None:
    """With time for all: every batch and context; more entries cost more, and longer prompts."""
    cost = measure_grids(
        model(), GridPlan(batches=(1, 2, 8), contexts=(2, 32), lanes=2, steps=3, seconds=60, rounds=1)
    )
    check_cost(cost)
    for grid in (cost.step, cost.prefill):
        assert (grid.batches, grid.contexts) == ((1, 2, 8), (2, 32))
    step, prefill = cells(cost.step), cells(cost.prefill)
    assert step[1, 2] < step[2, 2] < step[8, 2]
    assert step[8, 2] >= STEP_S + 7 * PER_ENTRY_S, "a sleep never takes less"
    assert prefill[1, 2] < prefill[1, 32] < prefill[8, 32]


def test_the_step_is_not_counted_in_the_prefill() -> None:
    """Where steps are long and a prefill takes none, a prefill is next to nothing."""
    cost = measure_cell(model(FakeTiming(step_s=0.5)), lanes=1, batch=2, context=20, steps=2)
    assert cost.step_s >= 0.45
    assert cost.prefill_s < cost.step_s / 2


def test_all_lanes_run_the_same_batch_at_once() -> None:
    """As they do in use; and entries differ, as no command of the fake engine is among their tokens."""
    watched = Watched(model().engine)
    measure_cell(Model(watched), lanes=3, batch=2, context=5, steps=2)
    assert watched.batches == [(2, 5)] * 3
    assert watched.most_at_once == 3


def timed(monkeypatch: pytest.MonkeyPatch) -> tuple[list[tuple[int, int]], Clock]:
    """Cells that take as many seconds as they have tokens, by a clock of their own; and which were measured."""
    clock, measured = Clock(), []

    def cell(model: object, *, lanes: int, batch: int, context: int, steps: int) -> SimpleNamespace:
        measured.append((batch, context))
        clock.now_s += batch * context
        return SimpleNamespace(step_s=1.0 + batch + context / 100, prefill_s=0.01 * batch * context)

    monkeypatch.setattr("headrace.worker.grids.measure_cell", cell)
    monkeypatch.setattr("headrace.worker.grids.CellCost", SimpleNamespace)
    return measured, clock


PLAN = GridPlan(batches=(1, 2, 4, 8), contexts=(10, 20, 40, 80), lanes=1, seconds=1e9, rounds=3)


def plan(**changes: float) -> GridPlan:
    return GridPlan(**{name: changes.get(name, getattr(PLAN, name)) for name in GridPlan.__slots__})


def test_one_entry_and_the_shortest_context_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the cells between, the smaller first; and each as often as there are rounds."""
    measured, clock = timed(monkeypatch)
    measure_grids(model(), PLAN, clock=clock)
    assert measured[:4] == [(1, 10), (1, 20), (1, 40), (1, 80)]
    assert measured[4:7] == [(2, 10), (4, 10), (8, 10)]
    sizes = [batch * context for batch, context in measured[7:16]]
    assert sizes == sorted(sizes)
    assert len(set(measured[:16])) == 16
    assert len(measured) == 48


def test_a_dimension_ends_where_time_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The axes are shortened, to a single cell at worst, and the grid is valid; time is kept but for the first cell."""
    for seconds in (0, 5, 40, 100, 200, 1000):
        measured, clock = timed(monkeypatch)
        cost = measure_grids(model(), plan(seconds=seconds), clock=clock)
        check_cost(cost)
        assert measured[0] == (1, 10)
        assert clock.now_s <= max(seconds, 10)
        assert cost.step.contexts == PLAN.contexts[: len(cost.step.contexts)]
        assert cost.step.batches == PLAN.batches[: len(cost.step.batches)]
        if seconds <= 10:
            assert cost.step.seconds == (1.0 + 1 + 0.1,)


def test_cells_that_were_not_measured_follow_from_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the rule: a longer context costs each entry what it costs it in the smaller batch."""
    measured, clock = timed(monkeypatch)
    cost = measure_grids(model(), plan(seconds=600), clock=clock)
    prefill = cells(cost.prefill)
    assert (8, 80) in prefill
    assert (8, 80) not in measured, "or the test gives too much time"
    assert prefill[8, 80] == pytest.approx(0.01 * 8 * 80), "the rule is exact where a cost is linear"


def test_the_models_limit_bounds_the_contexts() -> None:
    """With room for the steps that are measured; where even the first is too long, a shorter one takes its place."""
    room = 30 + WARM_UP_STEPS + 2
    asked = GridPlan(batches=(1,), contexts=(8, 30, 31), lanes=1, steps=2, seconds=60, rounds=1)
    assert measure_grids(model(context_length=room), asked).step.contexts == (8, 30)
    assert measure_grids(model(context_length=10), asked).step.contexts == (6,)


def test_what_the_engine_raises_comes_through() -> None:
    """Whichever lane it strikes."""

    class Failing(Watched):
        def run(self, *args: object, **more: object) -> None:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        measure_cell(Model(Failing(model().engine)), lanes=2, batch=1, context=4, steps=1)


def test_a_rate_counts_what_all_lanes_make() -> None:
    """Two lanes of a fake engine make more than one, as they only sleep."""
    slow = FakeTiming(step_s=0.01)
    one = measure_rate(model(slow), lanes=1, seconds=0.2)
    four = measure_rate(model(slow), lanes=4, seconds=0.2)
    assert 0 < one < four


def test_memory_is_looked_at_while_lanes_run() -> None:
    """In each lane; an engine without weights may take none."""
    watched = Watched(model(FakeTiming()).engine)
    assert measure_lane_memory(Model(watched), 2) >= 0
    assert len(watched.batches) == 2
