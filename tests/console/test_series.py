"""Points of the plots follow from what routers count."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.console.series import ALL, KEPT, WINDOW, Series, quantile, since_the_start
from headrace.contract.state import (
    BUCKETS,
    BatchState,
    QueueState,
    RouterState,
    TimingState,
    TotalState,
    WorkerState,
    bucket_of,
)
from headrace.contract.values import Priority


def timing(*seconds: float, priority: Priority = Priority.NORMAL) -> TimingState:
    counts = [0] * BUCKETS
    for each in seconds:
        counts[bucket_of(each)] += 1
    return TimingState(priority=priority, first_token=tuple(counts), inter_token=tuple(counts))


def state(tokens: int = 0, *timings: TimingState, started_s: float = 1.0, **more: object) -> RouterState:
    base = RouterState(router="r", started_s=started_s, totals=TotalState(tokens=tokens), timings=timings)
    return replace(base, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0.0004, 0.001, 0.02, 0.5, 3.0, 700.0])
def test_a_quantile_is_within_a_bucket_of_the_truth(seconds: float) -> None:
    """Buckets are a factor of √2 apart, so that is how far off it can be."""
    found = quantile(timing(*[seconds] * 10).first_token, 0.5)
    assert found is not None
    assert max(seconds, 0.0007) / 1.4143 <= found <= max(seconds, 0.001) * 1.4143


def test_rates_count_what_was_added_since_the_last_point() -> None:
    """The first point of a router counts nothing: how long its counts took is not known."""
    series = Series()
    series.add([state(1000)], now_s=1.0, over_s=1.0)
    series.add([state(1050)], now_s=3.0, over_s=2.0)
    assert [point["tokens"] for point in series.since(0)] == [0.0, 25.0]


def test_a_router_that_was_started_anew_takes_nothing_back() -> None:
    """Its counts begin at 0; no rate is negative."""
    series = Series()
    series.add([state(1000)], now_s=1.0, over_s=1.0)
    series.add([state(10, started_s=2.0)], now_s=2.0, over_s=1.0)
    series.add([state(30, started_s=2.0)], now_s=3.0, over_s=1.0)
    assert [point["tokens"] for point in series.since(0)] == [0.0, 0.0, 20.0]


def test_times_are_those_of_the_last_seconds_by_class() -> None:
    """What came before the window counts no more; a class without answers has none."""
    series = Series()
    slow, quick = timing(5.0), timing(5.0, *[0.01] * 9)
    series.add([state()], now_s=0.0, over_s=1.0)
    series.add([state(0, slow)], now_s=1.0, over_s=1.0)
    point = series.latest
    assert point is not None
    assert point["first50"][Priority.NORMAL] == pytest.approx(5.0, rel=0.42)
    assert point["first50"][Priority.REALTIME] is None
    for n in range(WINDOW):
        series.add([state(0, quick)], now_s=2.0 + n, over_s=1.0)
    point = series.latest
    assert point is not None
    assert point["first99"][ALL] == pytest.approx(0.01, rel=0.42)


def test_what_waits_at_two_routers_is_added_and_the_brokers_counted_once() -> None:
    """Each router tells the same of the broker's queue."""
    queue = QueueState(model="m", priority=Priority.HIGH, tenant="t", waiting=2, backlog=5)
    paused = BatchState(
        lane=0,
        batch=1,
        model=0,
        priority=Priority.HIGH,
        entries=3,
        context=9,
        generated=0,
        started_ms=1,
        paused_ms=2,
    )
    worker = WorkerState(id="w", name="w", batches=(paused, replace(paused, paused_ms=0, entries=4)))
    series = Series()
    both = [
        replace(state(queues=(queue,), workers=(worker,)), router="a"),
        replace(state(queues=(queue,)), router="b"),
    ]
    series.add(both, now_s=1.0, over_s=1.0)
    point = series.latest
    assert point is not None
    assert point["waiting"] == [0, 9, 0, 0]
    assert (point["running"], point["paused"]) == (4, 3)


def test_points_are_bounded_and_sent_once() -> None:
    """Ten minutes of them; a page gets those after its last."""
    series = Series()
    for n in range(KEPT + 5):
        series.add([], now_s=float(n), over_s=1.0)
    assert len(series.since(0)) == KEPT
    assert [point["t"] for point in series.since(series.number - 2)] == [KEPT + 3.0, KEPT + 4.0]


def test_somebody_who_looks_once_gets_all_answers_since_the_start() -> None:
    """Of all routers together."""
    figures = since_the_start([state(0, timing(0.1)), replace(state(0, timing(0.1, 0.1)), router="s")])
    assert figures["first50"][ALL] == pytest.approx(0.1, rel=0.42)
    assert figures["inter99"][Priority.BATCH] is None
