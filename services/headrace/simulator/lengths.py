"""How long the synthetic load's prompts and outputs are: drawn from a table of quantiles, linear between them.

The quantiles are those of the conversation part of the Azure LLM inference trace of 2023 (19,366 requests; Microsoft,
CC-BY-4.0), of which nothing else is here. A table keeps what a smooth distribution loses: the steps at prompts of 400,
1,020 and 4,100 tokens, and at outputs of 400. Prompt and output are all but independent there (rank correlation 0.07),
and are drawn so.
"""

from __future__ import annotations

import random
from bisect import bisect_right

SHARES = (
    0,
    0.01,
    0.02,
    0.05,
    0.1,
    0.15,
    0.2,
    0.25,
    0.3,
    0.35,
    0.4,
    0.45,
    0.5,
    0.55,
    0.6,
    0.65,
    0.7,
    0.75,
    0.8,
    0.85,
    0.9,
    0.925,
    0.95,
    0.98,
    0.99,
    0.999,
    1,
)
"""Of the requests that are no longer than"""
PROMPTS = (
    2,
    29,
    91,
    181,
    207,
    372,
    387,
    396,
    403,
    414,
    703,
    984,
    1020,
    1045,
    1071,
    1097,
    1130,
    1189,
    1315,
    1877,
    2735,
    4075,
    4083,
    4098,
    4142,
    6212,
    14050,
)
"""such a prompt,"""
OUTPUTS = (
    7,
    16,
    24,
    41,
    54,
    67,
    77,
    85,
    91,
    96,
    103,
    113,
    129,
    151,
    177,
    217,
    384,
    395,
    400,
    411,
    424,
    430,
    451,
    540,
    601,
    954,
    1000,
)
"""and such an output, in tokens."""


def quantile(table: tuple[int, ...], share: float) -> float:
    """The length that `share`, from 0 up to 1, of all are not above."""
    place = min(bisect_right(SHARES, share), len(SHARES) - 1)
    low, high = SHARES[place - 1], SHARES[place]
    part = (share - low) / (high - low)
    return table[place - 1] + part * (table[place] - table[place - 1])


def draw_lengths(rng: random.Random, scale_context: float, scale_output: float) -> tuple[int, int]:
    """Prompt and output, divided by the scales, at least 1."""
    prompt, output = quantile(PROMPTS, rng.random()), quantile(OUTPUTS, rng.random())
    return max(1, round(prompt / scale_context)), max(1, round(output / scale_output))
