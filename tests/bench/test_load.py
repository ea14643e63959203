"""The load: the same for the same seed, and shaped as it says."""

from __future__ import annotations

import random
import statistics
import sys
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import pytest

from headrace.bench import synthetic
from headrace.bench.arrivals import poisson
from headrace.bench.lengths import parse_lengths
from headrace.bench.load import Drawn, Planned, Recorded, Source, Synthetic, parse_priorities, plan_load
from headrace.bench.plan import Phase, Plan
from headrace.bench.trace import read_trace
from headrace.contract.errors import InvalidRequest
from headrace.contract.values import Priority

NORMAL = {Priority.NORMAL: 1.0}


def planned(source: Source, *, seed: int = 1, count: int = 50) -> list[Planned]:
    return plan_load(
        source, count=count, seed=seed, rate=5.0, until_s=None, priorities=NORMAL, context_length=4096
    )


@pytest.mark.parametrize(
    "source",
    [Drawn(prompt="16-256", output="log:16-128"), Synthetic(scale_prompt=8.0, scale_output=3.0)],
)
def test_a_seed_is_a_load(source: Source) -> None:
    """The same seed gives the same requests, another one others."""
    assert planned(source, seed=1) == planned(source, seed=1)
    assert planned(source, seed=1) != planned(source, seed=2)


def test_the_synthetic_load_has_the_shape_that_it_says() -> None:
    """Medians and tails of prompts and outputs, and arrivals that cluster more than Poisson's over minutes."""
    rng = random.Random(7)
    prompts, outputs = synthetic.prompt_lengths(), synthetic.output_lengths()
    drawn = sorted(prompts(rng) for _ in range(20_000))
    assert drawn[10_000] == pytest.approx(1_020, rel=0.03)
    assert drawn[18_000] == pytest.approx(2_700, rel=0.10)
    made = sorted(outputs(rng) for _ in range(20_000))
    assert made[10_000] == pytest.approx(130, rel=0.05)
    assert sum(380 <= length <= 450 for length in made) / 20_000 == pytest.approx(0.25, abs=0.06)
    times = list(islice(synthetic.arrivals(synthetic.RATE, rng), 100_000))
    assert len(times) / times[-1] == pytest.approx(synthetic.RATE, rel=0.1)
    minutes = Counter(int(at_s // 60) for at_s in times)
    counts = [minutes[minute] for minute in range(int(times[-1] // 60))]
    assert 0.15 < statistics.stdev(counts) / statistics.mean(counts) < 0.35


def test_poisson_arrivals_have_their_rate() -> None:
    """Mean and spread of the gaps are both one over the rate."""
    times = list(islice(poisson(4.0, random.Random(3)), 20_000))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert statistics.mean(gaps) == pytest.approx(0.25, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(0.25, rel=0.05)


def test_a_trace_is_read_in_order_and_scaled(tmp_path: Path) -> None:
    """Times count from the first; lengths are divided, at least 1."""
    file = tmp_path / "trace.csv"
    file.write_text("arrival_s,prompt_tokens,output_tokens\n12.0,80,1\n10.0,400,30\n")
    rows = read_trace(file, scale_time=2.0, scale_prompt=8.0, scale_output=3.0)
    assert [(row.arrival_s, row.prompt_tokens, row.output_tokens) for row in rows] == [
        (0.0, 50, 10),
        (1.0, 10, 1),
    ]
    source = Recorded(path=file, scale_time=2.0, scale_prompt=8.0, scale_output=3.0)
    assert [one.prompt_tokens for one in planned(source)] == [50, 10]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("arrival_s,prompt_tokens\n1,2\n", "no column output_tokens"),
        ("arrival_s,prompt_tokens,output_tokens\n1,x,3\n", "line 2"),
        ("arrival_s,prompt_tokens,output_tokens\n", "no rows"),
    ],
)
def test_a_bad_trace_names_the_fault(tmp_path: Path, text: str, says: str) -> None:
    """The column or the line."""
    file = tmp_path / "trace.csv"
    file.write_text(text)
    with pytest.raises(InvalidRequest, match=says):
        read_trace(file)


@pytest.mark.parametrize("text", ["0-5", "9-3", "words", "exp:1-2", "-3"])
def test_lengths_that_are_none_are_refused(text: str) -> None:
    """With what is allowed."""
    with pytest.raises(ValueError, match=r"length|log"):
        parse_lengths(text)


def test_priorities_come_as_often_as_asked() -> None:
    """Shares need not add up to one."""
    shares = parse_priorities("realtime=1,batch=3")
    source = Drawn(prompt="8", output="8")
    load = plan_load(source, count=4000, seed=1, rate=1.0, until_s=None, priorities=shares, context_length=64)
    assert sum(one.priority is Priority.BATCH for one in load) / 4000 == pytest.approx(0.75, abs=0.03)


def test_a_prompt_leaves_room_for_its_output() -> None:
    """Within the context; an output that fills it alone is refused."""
    source = Drawn(prompt="100", output="40")
    (one,) = plan_load(source, count=1, seed=1, rate=1.0, until_s=None, priorities=NORMAL, context_length=64)
    assert (one.prompt_tokens, one.output_tokens) == (24, 40)
    with pytest.raises(InvalidRequest, match="leave no room"):
        plan_load(source, count=1, seed=1, rate=1.0, until_s=None, priorities=NORMAL, context_length=40)


@pytest.mark.parametrize(
    ("clients", "requests", "duration_s", "expected"),
    [
        (0, None, 8.0, (sys.maxsize, 8.0)),
        (0, None, None, (sys.maxsize, 30.0)),
        (0, 50, None, (50, None)),
        (0, 50, 8.0, (50, 8.0)),
        (8, None, None, (24, None)),
        (8, None, 8.0, (256, None)),
    ],
)
def test_an_open_loop_is_bounded_by_its_time_or_its_number(
    clients: int, requests: int | None, duration_s: float | None, expected: tuple[int, float | None]
) -> None:
    """A closed loop by its number; for a duration it goes round a fixed set."""
    phase = Phase(clients=clients)
    plan = Plan(
        model="m",
        source=Drawn(prompt="8", output="8"),
        phases=(phase,),
        rate=1.0,
        requests=requests,
        duration_s=duration_s,
        seed=0,
        priorities=NORMAL,
        warm_up=None,
        timeout_s=1.0,
        driver_processes=1,
        rounds=1,
        direct_batches=(),
    )
    assert (plan.count(phase), plan.until_s(phase)) == expected
