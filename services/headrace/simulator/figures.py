"""What a run came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Protocol

from headrace.contract.values import OutcomeKind
from headrace.simulator.asked import Life
from headrace.simulator.fairness import fairness
from headrace.simulator.objectives import Objectives


class Busy(Protocol):
    """A worker, or a slot, of any virtual engine."""

    busy_s: float
    prefill_again_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Of the requests of one class, or of one tenant. Seconds; percentiles are of the completed ones."""

    requests: int
    goodput: float
    """Share of all that completed within their objectives."""
    goodput_tokens: float
    """The same, each counted with its output."""
    late: float
    """Share of all whose first token came too late."""
    slow: float
    """Share of all whose tokens after it came too slowly, late or not."""
    first_token_p50_s: float
    first_token_p99_s: float
    token_p50_s: float
    """Mean time per output token after the first, of each request."""
    token_p99_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one run."""

    requests: int
    completed: int
    shed: float
    """Share that ended without having been completed."""
    goodput: float
    goodput_tokens: float
    late: float
    slow: float
    by_class: Mapping[str, Part]
    by_tenant: Mapping[str, Part]
    jain: float
    gap_tokens: float
    makespan_s: float
    """Until the last token."""
    tokens_per_s: float
    """Output tokens of completed requests by the makespan."""
    utilisation: float
    """Busy time of all slots by the makespan."""
    prefill_again: float
    """Share of busy time that was spent on recomputing."""


def figures_of(lives: Sequence[Life], objectives: Objectives, workers: Sequence[Busy], slots: int) -> Figures:
    """Of a run that is over."""
    done = [life for life in lives if life.outcome is OutcomeKind.COMPLETED]
    end_s = max((life.last_s for life in lives if isfinite(life.last_s)), default=0.0)
    busy_s = sum(worker.busy_s for worker in workers)
    whole = part_of(lives, objectives)
    jain, gap = fairness(lives, end_s)
    return Figures(
        requests=len(lives),
        completed=len(done),
        shed=1 - len(done) / len(lives),
        goodput=whole.goodput,
        goodput_tokens=whole.goodput_tokens,
        late=whole.late,
        slow=whole.slow,
        by_class=_parts(lives, objectives, lambda life: life.asked.priority.label),
        by_tenant=_parts(lives, objectives, lambda life: life.asked.tenant),
        jain=jain,
        gap_tokens=gap,
        makespan_s=end_s,
        tokens_per_s=sum(life.asked.output_tokens for life in done) / end_s if end_s else 0.0,
        utilisation=busy_s / (slots * end_s) if end_s else 0.0,
        prefill_again=sum(worker.prefill_again_s for worker in workers) / busy_s if busy_s else 0.0,
    )


def part_of(lives: Sequence[Life], objectives: Objectives) -> Part:
    """Of some requests, at least one."""
    done = [life for life in lives if life.outcome is OutcomeKind.COMPLETED]
    good = [life for life in done if objectives.met(life)]
    first = sorted(life.first_s - life.asked.arrival_s for life in done)
    token = sorted(
        (life.last_s - life.first_s) / (life.asked.output_tokens - 1)
        for life in done
        if life.asked.output_tokens > 1
    )
    return Part(
        requests=len(lives),
        goodput=len(good) / len(lives),
        goodput_tokens=_tokens(good) / _tokens(lives),
        late=sum(not objectives.met_first_token(life) for life in done) / len(lives),
        slow=sum(not objectives.met_token(life) for life in done) / len(lives),
        first_token_p50_s=percentile(first, 0.5),
        first_token_p99_s=percentile(first, 0.99),
        token_p50_s=percentile(token, 0.5),
        token_p99_s=percentile(token, 0.99),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all are not above; 0 where there is none."""
    return ordered[ceil(share * len(ordered)) - 1] if ordered else 0.0


def _tokens(lives: Sequence[Life]) -> int:
    return sum(life.asked.output_tokens for life in lives)


def _parts(lives: Sequence[Life], objectives: Objectives, of: Callable[[Life], str]) -> dict[str, Part]:
    groups: dict[str, list[Life]] = {}
    for life in sorted(lives, key=lambda life: (life.asked.priority, life.asked.tenant)):
        groups.setdefault(of(life), []).append(life)
    return {name: part_of(those, objectives) for name, those in groups.items()}
