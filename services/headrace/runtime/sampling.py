"""Which traces are recorded: OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG, as the specification has them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from opentelemetry.trace import SpanContext

from headrace.contract.errors import StartError

Sampler: TypeAlias = Callable[[int, SpanContext | None], bool]
"""Of a trace id and the parent, if there is one: whether the span is recorded."""

NAMES = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)
DEFAULT = "parentbased_always_on"
_LOW_64 = (1 << 64) - 1


def sampler_of(name: str, argument: str) -> Sampler:
    """`name` and `argument` as the environment has them, "" where it has none. Raises StartError."""
    name = name.lower() or DEFAULT
    if name not in NAMES:
        raise StartError(f"OTEL_TRACES_SAMPLER={name} is not supported", f"Use one of {', '.join(NAMES)}")
    own = name.removeprefix("parentbased_")
    bound = {"always_on": 1 << 64, "always_off": 0}.get(own)
    if bound is None:
        bound = math.ceil(_ratio(argument) * (1 << 64))

    def root(trace_id: int, parent: SpanContext | None) -> bool:
        # The ratio is of the trace's id, so that all processes choose the same traces.
        return (trace_id & _LOW_64) < bound

    def by_parent(trace_id: int, parent: SpanContext | None) -> bool:
        return root(trace_id, None) if parent is None else parent.trace_flags.sampled

    return by_parent if name.startswith("parentbased_") else root


def _ratio(argument: str) -> float:
    try:
        ratio = float(argument or "1")
    except ValueError:
        ratio = math.nan
    if not 0 <= ratio <= 1:
        raise StartError(f"OTEL_TRACES_SAMPLER_ARG={argument} is no ratio", "Use a number from 0 to 1")
    return ratio
