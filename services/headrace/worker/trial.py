"""How much a loaded model makes with all its lanes at work, and how much memory that takes."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil

from headrace.contract.values import Sampling
from headrace.worker.measure import Measurable, make_prompts, run_lanes

TRIAL_BATCH, TRIAL_CONTEXT, TRIAL_TOKENS = 4, 64, 32
"""What each lane runs again and again in a trial: so many entries, with prompts of so many tokens, making so many."""
MEMORY_BATCH, MEMORY_CONTEXT = 4, 256
"""What each lane runs while its memory is looked at."""
_MEMORY_STEPS = 3


@dataclass(slots=True)
class _Counter:
    """Tokens of one lane until a time. `on_token` is an `OnToken`."""

    until_s: float
    tokens: int = 0

    def on_token(self, index: int, token_id: int, step: int, last: bool) -> bool:
        self.tokens += 1
        return time.perf_counter() >= self.until_s


def measure_rate(model: Measurable, *, lanes: int, seconds: float) -> float:
    """Tokens per second of all lanes together, over about `seconds`: the last prefill and step are waited for."""
    _warm_up(model, lanes)
    context = _context(model, TRIAL_CONTEXT, TRIAL_TOKENS)
    prompts = [make_prompts(model, TRIAL_BATCH, context, seed=lane) for lane in range(lanes)]
    began_s = time.perf_counter()
    counters = [_Counter(began_s + seconds) for _ in range(lanes)]

    def run(lane: int) -> None:
        while time.perf_counter() < counters[lane].until_s:
            model.engine.run(
                prompts[lane],
                sampling=Sampling(ignore_end=True),
                max_new=TRIAL_TOKENS,
                on_token=counters[lane].on_token,
            )

    run_lanes(run, lanes)
    return sum(counter.tokens for counter in counters) / (time.perf_counter() - began_s)


def measure_lane_memory(model: Measurable, lanes: int) -> int:
    """Bytes that a lane takes beside the weights. Of use for a model that has not run yet."""
    loaded = process_bytes()
    most = [loaded] * lanes
    context = _context(model, MEMORY_CONTEXT, _MEMORY_STEPS)

    def run(lane: int) -> None:
        def on_token(index: int, token_id: int, step: int, last: bool) -> bool:
            if index == 0:
                most[lane] = max(most[lane], process_bytes())
            return False

        model.engine.run(
            make_prompts(model, MEMORY_BATCH, context, seed=lane),
            sampling=Sampling(ignore_end=True),
            max_new=_MEMORY_STEPS,
            on_token=on_token,
        )

    run_lanes(run, lanes)
    return (max(most) - loaded) // lanes


def process_bytes() -> int:
    """Memory of this process."""
    return int(psutil.Process().memory_info().rss)


def _warm_up(model: Measurable, lanes: int) -> None:
    def run(lane: int) -> None:
        model.engine.run(
            make_prompts(model, 1, 2, seed=lane),
            sampling=Sampling(ignore_end=True),
            max_new=2,
            on_token=lambda index, token_id, step, last: False,
        )

    run_lanes(run, lanes)


def _context(model: Measurable, wanted: int, new: int) -> int:
    """`wanted`, or what the model's own limit leaves beside `new` tokens."""
    return max(2, min(wanted, model.context_length - new))
