"""What static prompts spare and what shadows answer, as metrics. Counted elsewhere, for operators; read here."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from headrace.contract.rollout import ShadowCounts
from headrace.contract.static import StaticCounts
from headrace.runtime import metric_names as names
from headrace.runtime.metrics import Metrics
from headrace.runtime.tally import Labels


def watch_rollouts(
    metrics: Metrics,
    *,
    statics: Callable[[], Iterable[StaticCounts]],
    shadows: Callable[[], Iterable[ShadowCounts]],
) -> None:
    """Has both read, on the event loop."""
    metrics.watch(names.STATIC_PROMPTS, lambda: _statics(statics()))
    metrics.watch(names.STATIC_TOKENS, lambda: {(one.model,): one.tokens for one in statics()} or {("",): 0})
    metrics.watch(names.SHADOW_COPIES, lambda: _copies(shadows()))
    metrics.watch(names.SHADOW_ANSWERS, lambda: _answers(shadows()))


def _statics(counts: Iterable[StaticCounts]) -> dict[Labels, float]:
    found: dict[Labels, float] = {}
    for one in counts:
        found |= {(one.model, "hit"): one.hits, (one.model, "miss"): one.misses}
    return found or {("", ""): 0}


def _copies(counts: Iterable[ShadowCounts]) -> dict[Labels, float]:
    found: dict[Labels, float] = {}
    for one in counts:
        of = (one.alias, one.model)
        found |= {(*of, "sent"): one.copies, (*of, "dropped"): one.dropped}
    return found or {("", "", ""): 0}


def _answers(counts: Iterable[ShadowCounts]) -> dict[Labels, float]:
    found: dict[Labels, float] = {}
    for one in counts:
        of = (one.alias, one.model)
        found |= {
            (*of, "failed"): one.failed,
            (*of, "same"): one.same,
            (*of, "different"): one.different,
            (*of, "sampled"): one.answers - one.same - one.different,
        }
    return found or {("", "", ""): 0}
