"""Which requests a phase of the benchmark makes: the same ones for the same seed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from headrace.bench import synthetic
from headrace.bench.arrivals import poisson
from headrace.bench.lengths import Lengths, parse_lengths, scaled
from headrace.bench.trace import read_trace
from headrace.contract.errors import InvalidRequest
from headrace.contract.values import Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One request to make."""

    arrival_s: float
    """From the start of the phase; in a closed loop nobody looks at it."""
    prompt_tokens: int
    output_tokens: int
    priority: Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Lengths drawn from distributions, `64`, `16-256` or `log:16-256`; arrivals are Poisson's."""

    prompt: str
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """Lengths and arrivals like those of a conversation service, with lengths divided by the scales."""

    scale_prompt: float
    scale_output: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Lengths and arrivals of a trace file, divided by the scales."""

    path: Path
    scale_time: float
    scale_prompt: float
    scale_output: float


Source: TypeAlias = Drawn | Synthetic | Recorded


def plan_load(
    source: Source,
    *,
    count: int,
    seed: int,
    rate: float,
    until_s: float | None,
    priorities: Mapping[Priority, float],
    context_length: int,
) -> list[Planned]:
    """The first `count` requests of `source`, those after `until_s` left out.

    `rate`: arrivals a second; a recorded load keeps its own. A prompt that would leave no room for its output within
    `context_length` is cut to what fits. Raises InvalidRequest.
    """
    # Lengths, arrivals and priorities each have their own stream of numbers: to change one leaves the others alone.
    lengths, times, classes = (random.Random(f"{seed}/{part}") for part in ("lengths", "times", "priorities"))
    rows = _rows(source, rate, lengths, times)
    taken = itertools.takewhile(
        lambda row: until_s is None or row[0] <= until_s, itertools.islice(rows, count)
    )
    return [
        Planned(
            arrival_s=arrival_s,
            prompt_tokens=_fitting(prompt, output, context_length),
            output_tokens=output,
            priority=_draw_priority(priorities, classes),
        )
        for arrival_s, prompt, output in taken
    ]


def mean_rate(source: Source) -> float:
    """The rate that a source has by itself."""
    return synthetic.RATE if isinstance(source, Synthetic) else 1.0


def parse_priorities(text: str) -> dict[Priority, float]:
    """`realtime=1,normal=3`: how often each comes. Raises ValueError."""
    shares: dict[Priority, float] = {}
    known = {priority.label: priority for priority in Priority}
    for part in text.split(","):
        name, _, share = part.strip().partition("=")
        if name not in known:
            raise ValueError(f"{name!r} is no priority: {', '.join(known)}")
        shares[known[name]] = float(share or 1)
    if min(shares.values()) < 0 or not sum(shares.values()):
        raise ValueError("shares are 0 or more, and not all 0")
    return shares


def _rows(
    source: Source, rate: float, lengths: random.Random, times: random.Random
) -> Iterator[tuple[float, int, int]]:
    match source:
        case Recorded():
            return iter(_recorded(source))
        case Synthetic():
            prompts = scaled(synthetic.prompt_lengths(), source.scale_prompt)
            outputs = scaled(synthetic.output_lengths(), source.scale_output)
            return _drawn(synthetic.arrivals(rate, times), prompts, outputs, lengths)
        case Drawn():
            prompts, outputs = parse_lengths(source.prompt), parse_lengths(source.output)
            return _drawn(poisson(rate, times), prompts, outputs, lengths)


def _drawn(
    arrivals: Iterator[float], prompts: Lengths, outputs: Lengths, rng: random.Random
) -> Iterator[tuple[float, int, int]]:
    return ((arrival_s, prompts(rng), outputs(rng)) for arrival_s in arrivals)


def _recorded(source: Recorded) -> Sequence[tuple[float, int, int]]:
    rows = read_trace(
        source.path,
        scale_time=source.scale_time,
        scale_prompt=source.scale_prompt,
        scale_output=source.scale_output,
    )
    return [(row.arrival_s, row.prompt_tokens, row.output_tokens) for row in rows]


def _fitting(prompt: int, output: int, context_length: int) -> int:
    if output >= context_length:
        raise InvalidRequest("output", f"{output} tokens leave no room in a context of {context_length}")
    return min(prompt, context_length - output)


def _draw_priority(shares: Mapping[Priority, float], rng: random.Random) -> Priority:
    (priority,) = rng.choices(list(shares), list(shares.values()))
    return priority
