"""A load: the requests that come, the same for the same seed, at any offered rate.

A seed chooses a stretch of a recorded load, or draws a synthetic one that is like it (`lengths`, and the bursts of
`headrace.bench.synthetic`); and it draws who asks, and with which class. Another rate stretches or squeezes the time,
and leaves all else as it is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from statistics import fmean

from headrace.bench import synthetic
from headrace.bench.trace import read_trace
from headrace.contract.values import Priority
from headrace.simulator.asked import Asked
from headrace.simulator.flood import FLOODER, Flood
from headrace.simulator.lengths import OUTPUTS, PROMPTS, draw_lengths, quantile

SHORTEST_PROMPT = 2
"""A prompt of one token is a case of its own in the engine, and decodes alone."""
LONGEST_OUTPUT = OUTPUTS[-1]
"""Before scaling: what every client allows where nobody says otherwise. It tells nothing of one output's length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec:
    """Which load."""

    trace: Path | None
    """A file of arrivals and lengths; None = synthetic."""
    requests: int
    scale_context: float = 8.0
    scale_output: float = 3.0
    classes: tuple[tuple[Priority, float], ...] = ((Priority.NORMAL, 1.0),)
    """How often each comes."""
    tenants: int = 1
    flood: Flood | None = None
    max_tokens: int | None = None
    """What every client allows; a longer output ends there. None = the longest output that there is."""


Row = tuple[float, int, int, Priority, str]
"""Arrival at the load's own rate, prompt, output, class, tenant."""


def make_load(spec: LoadSpec, seed: int, *, offered: float | None) -> list[Asked]:
    """The requests in order of arrival. `offered`: output tokens a second in the mean, without a flood's; None = all
    are there at once. Raises InvalidRequest for a trace that cannot be read.
    """
    rows, limit = _rows(spec, seed), max_tokens_of(spec)
    tokens = sum(min(output, limit) for _, _, output, _, _ in rows)
    span_s = tokens / offered if offered else 0.0
    own_s = rows[-1][0] or 1.0
    timed: list[Row] = [(row[0] / own_s * span_s, *row[1:]) for row in rows]
    if spec.flood and span_s:
        timed = sorted([*timed, *_flooding(spec, seed, len(rows) / span_s)], key=lambda row: row[0])
    return [
        Asked(index, at_s, prompt, min(output, limit), limit, priority, tenant)
        for index, (at_s, prompt, output, priority, tenant) in enumerate(timed)
    ]


def max_tokens_of(spec: LoadSpec) -> int:
    """What every client allows."""
    if spec.max_tokens is not None:
        return spec.max_tokens
    rows = _trace(spec) if spec.trace else ()
    return max((row[2] for row in rows), default=max(1, round(LONGEST_OUTPUT / spec.scale_output)))


def typical(spec: LoadSpec) -> tuple[int, int]:
    """The median prompt and output of the load's source, and so of no seed."""
    if not spec.trace:
        prompt, output = quantile(PROMPTS, 0.5), quantile(OUTPUTS, 0.5)
        return max(SHORTEST_PROMPT, round(prompt / spec.scale_context)), max(
            1, round(output / spec.scale_output)
        )
    prompts, outputs = sorted(row[1] for row in _trace(spec)), sorted(row[2] for row in _trace(spec))
    return max(SHORTEST_PROMPT, prompts[len(prompts) // 2]), outputs[len(outputs) // 2]


def mean_output(spec: LoadSpec, seed: int) -> float:
    """Of one output, in tokens."""
    limit = max_tokens_of(spec)
    return fmean(min(row[2], limit) for row in _rows(spec, seed))


@lru_cache(maxsize=4)
def _rows(spec: LoadSpec, seed: int) -> tuple[Row, ...]:
    # Each part has numbers of its own: to change one leaves the others alone.
    who = random.Random(f"{seed}/who")
    kinds, weights = [kind for kind, _ in spec.classes], [weight for _, weight in spec.classes]
    return tuple(
        (
            at_s,
            max(SHORTEST_PROMPT, prompt),
            output,
            who.choices(kinds, weights)[0],
            f"t{who.randrange(spec.tenants) + 1}",
        )
        for at_s, prompt, output in _arrivals(spec, seed)
    )


def _arrivals(spec: LoadSpec, seed: int) -> Iterator[tuple[float, int, int]]:
    if spec.trace:
        return _stretch(_trace(spec), spec.requests, random.Random(f"{seed}/stretch"))
    times = synthetic.arrivals(synthetic.RATE, random.Random(f"{seed}/times"))
    lengths = _lengths(spec, random.Random(f"{seed}/lengths"))
    return ((at_s, prompt, output) for at_s, (prompt, output) in zip(islice(times, spec.requests), lengths))  # noqa: B905


def _lengths(spec: LoadSpec, rng: random.Random) -> Iterator[tuple[int, int]]:
    while True:
        yield draw_lengths(rng, spec.scale_context, spec.scale_output)


@lru_cache(maxsize=2)
def _read(path: Path, scale_context: float, scale_output: float) -> tuple[tuple[float, int, int], ...]:
    rows = read_trace(path, scale_prompt=scale_context, scale_output=scale_output)
    return tuple((row.arrival_s, row.prompt_tokens, row.output_tokens) for row in rows)


def _trace(spec: LoadSpec) -> tuple[tuple[float, int, int], ...]:
    assert spec.trace is not None
    return _read(spec.trace, spec.scale_context, spec.scale_output)


def _stretch(
    rows: tuple[tuple[float, int, int], ...], count: int, rng: random.Random
) -> Iterator[tuple[float, int, int]]:
    """`count` rows from a place on; after the last comes the first again, as long after it as the mean gap."""
    whole_s = rows[-1][0] * (1 + 1 / max(1, len(rows) - 1))
    first = rng.randrange(len(rows)) if count < len(rows) else 0
    for index in range(first, first + count):
        turns, place = divmod(index, len(rows))
        at_s, prompt, output = rows[place]
        yield at_s + turns * whole_s - rows[first][0], prompt, output


def _flooding(spec: LoadSpec, seed: int, rate: float) -> Iterator[Row]:
    assert spec.flood is not None
    who, lengths = random.Random(f"{seed}/flood"), _lengths_of(spec, seed)
    kinds, weights = [kind for kind, _ in spec.classes], [weight for _, weight in spec.classes]
    for at_s in spec.flood.arrivals(rate, who):
        prompt, output = next(lengths)
        yield at_s, max(SHORTEST_PROMPT, prompt), output, who.choices(kinds, weights)[0], FLOODER


def _lengths_of(spec: LoadSpec, seed: int) -> Iterator[tuple[int, int]]:
    """More of them, of the same source."""
    rng = random.Random(f"{seed}/flood lengths")
    if not spec.trace:
        return _lengths(spec, rng)
    rows = _trace(spec)
    return ((row[1], row[2]) for row in iter(lambda: rng.choice(rows), None))
