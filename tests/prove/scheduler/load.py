"""The requests of these measurements: seeded, greedy, each with exactly as many tokens as its load says."""

from __future__ import annotations

import random
from dataclasses import dataclass

from headrace.bench.driver import ToSend
from headrace.bench.load import Drawn, plan_load
from headrace.bench.prompts import make_prompt
from headrace.contract.values import Priority
from headrace.models.store import StoredModel
from headrace.models.tokeniser import Tokeniser

MODEL = "smollm2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Lengths in tokens, `64` or `16-512`; arrivals a second, which only an open loop looks at."""

    prompts: str
    outputs: str
    rate: float = 1.0
    until_s: float | None = None
    """Arrivals after this are left out."""


MIXED = Shape(prompts="16-512", outputs="16-128")


def requests(
    model: StoredModel, shape: Shape, *, count: int, seed: int, priority: Priority = Priority.NORMAL
) -> list[ToSend]:
    """The first `count` requests of that shape. The same arguments give the same ones."""
    tokeniser = Tokeniser.load(model)
    texts = random.Random(f"{seed}/prompts")
    load = plan_load(
        Drawn(prompt=shape.prompts, output=shape.outputs),
        count=count,
        seed=seed,
        rate=shape.rate,
        until_s=shape.until_s,
        priorities={priority: 1.0},
        context_length=model.manifest.context_length,
    )
    return [
        ToSend(
            index=index,
            prompt=make_prompt(tokeniser, one.prompt_tokens, texts),
            prompt_tokens=one.prompt_tokens,
            output_tokens=one.output_tokens,
            priority=one.priority.label,
            arrival_s=one.arrival_s,
        )
        for index, one in enumerate(load)
    ]
