"""What one cell of a cost grid takes: the same batch in several lanes at once, timed by the engine's callbacks.

A batch is B prompts of c tokens, all equally long, so that they are prefilled together and every step makes a token of
each. Step t of it sees c + t tokens; a few steps are enough, and near enough.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Protocol

from headrace.contract.values import Sampling
from headrace.worker.engine import Engine

MIN_COST_S = 1e-6
"""A cost lies above 0; less than this is nothing."""
WARM_UP_STEPS = 2
"""Tokens that each entry makes before its steps count: the first step ends the prefill, the next one warms up."""
_WHOLE = Sampling(ignore_end=True)
"""No entry ends early: a batch keeps its size."""


class Measurable(Protocol):
    """What is measured of a model that is loaded: `headrace.worker.serving.ServingModel` is one."""

    @property
    def engine(self) -> Engine: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def context_length(self) -> int: ...
    @property
    def end_ids(self) -> Collection[int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CellCost:
    """What was measured of one cell, in seconds."""

    step_s: float
    """The median of all steps of all lanes."""
    prefill_s: float
    """From the start to the beginning of the step that makes the first tokens: the median of the lanes."""


@dataclass(slots=True)
class _Timer:
    """When each step made its first token. `on_token` is an `OnToken`, and is called by one lane's thread."""

    began_s: float = 0.0
    at_s: list[float] = field(default_factory=list)

    def on_token(self, index: int, token_id: int, step: int, last: bool) -> bool:
        if step == len(self.at_s):
            self.at_s.append(time.perf_counter())
        return False


def measure_cell(model: Measurable, *, lanes: int, batch: int, context: int, steps: int) -> CellCost:
    """Runs `batch` prompts of `context` tokens in each of `lanes` lanes at once, and times `steps` steps of each.

    Blocks. Whatever the engine raises comes through. The context length has room for `WARM_UP_STEPS` + `steps` tokens
    more.
    """
    timers = [_Timer() for _ in range(lanes)]
    prompts = [make_prompts(model, batch, context, seed=lane) for lane in range(lanes)]
    together = threading.Barrier(lanes)

    def run(lane: int) -> None:
        together.wait()
        timers[lane].began_s = time.perf_counter()
        model.engine.run(
            prompts[lane], sampling=_WHOLE, max_new=WARM_UP_STEPS + steps, on_token=timers[lane].on_token
        )

    run_lanes(run, lanes)
    step_s = max(MIN_COST_S, median(_steps(timers)))
    first_s = median(timer.at_s[0] - timer.began_s for timer in timers)
    return CellCost(step_s=step_s, prefill_s=max(MIN_COST_S, first_s - step_s))


def run_lanes(run: Callable[[int], None], lanes: int) -> None:
    """Calls `run(lane)` for every lane, each in a thread of its own. Raises what the first of them raised."""
    with ThreadPoolExecutor(lanes, thread_name_prefix="measure") as threads:
        for future in [threads.submit(run, lane) for lane in range(lanes)]:
            future.result()


def make_prompts(model: Measurable, batch: int, context: int, seed: int) -> Sequence[Sequence[int]]:
    """`batch` prompts of `context` tokens each, which mean nothing: from the upper half of the vocabulary, where the
    engine without a model has no commands.
    """
    rng = random.Random(seed)
    ids = [i for i in range(model.vocab_size // 2, model.vocab_size) if i not in model.end_ids]
    return [rng.choices(ids, k=context) for _ in range(batch)]


def _steps(timers: Iterable[_Timer]) -> list[float]:
    return [after - before for timer in timers for before, after in pairwise(timer.at_s[WARM_UP_STEPS - 1 :])]
