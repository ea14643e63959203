"""Throughput and percentiles of a set of records."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from headrace.bench.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A distribution of times, in milliseconds. All 0 where nothing was measured."""

    p50: float
    p90: float
    p99: float
    mean: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a load came to. Throughput counts from the first request sent to the last one ended."""

    requests: int
    """Those that ended as they should."""
    output_tokens: int
    prompt_tokens: int
    wall_s: float
    output_tokens_per_s: float
    requests_per_s: float
    tokens_per_chunk: float
    first_token_ms: Spread
    """From sending a request to its first chunk of tokens."""
    inter_token_ms: Spread
    """Between tokens after the first; the time before a chunk of several is divided among them."""
    request_ms: Spread
    errors: Mapping[str, int]
    """How many requests failed, by code."""


def figures_of(records: Sequence[Record], prompt_tokens: Mapping[int, int]) -> Figures:
    """The figures of `records`; `prompt_tokens` gives the length of a request's prompt by its index."""
    good = [record for record in records if not record.error]
    tokens = sum(record.tokens for record in records)
    begin_s = min((record.sent_s for record in records), default=0.0)
    end_s = max((record.ended_s for record in records), default=0.0)
    wall_s = max(end_s - begin_s, 1e-9)
    chunks = sum(record.chunks for record in records)
    return Figures(
        requests=len(good),
        output_tokens=tokens,
        prompt_tokens=sum(prompt_tokens[record.index] for record in good),
        wall_s=wall_s,
        output_tokens_per_s=tokens / wall_s,
        requests_per_s=len(good) / wall_s,
        tokens_per_chunk=tokens / chunks if chunks else 0.0,
        first_token_ms=spread((record.first_s - record.sent_s, 1) for record in good if record.first_s),
        inter_token_ms=spread(gap for record in good for gap in record.gaps),
        request_ms=spread((record.ended_s - record.sent_s, 1) for record in good),
        errors=dict(Counter(record.error for record in records if record.error)),
    )


def spread(weighted_s: Iterable[tuple[float, int]]) -> Spread:
    """The spread of (seconds, how often). The percentile p is the smallest value that p % are not above."""
    values = sorted(weighted_s)
    total = sum(count for _, count in values)
    if not total:
        return Spread(p50=0.0, p90=0.0, p99=0.0, mean=0.0)

    def percentile(share: float) -> float:
        rank, passed = math.ceil(share * total), 0
        for value, count in values:
            passed += count
            if passed >= rank:
                return value * 1e3
        raise AssertionError("the rank is at most the total")

    mean = sum(value * count for value, count in values) / total * 1e3
    return Spread(p50=percentile(0.5), p90=percentile(0.9), p99=percentile(0.99), mean=mean)
