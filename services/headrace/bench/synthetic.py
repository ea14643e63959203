"""A load like that of a conversation service, made from a seed: no trace is needed to have it.

The parameters were fitted to the conversation part of the Azure LLM inference trace of 2023 (19,366 requests in 58
minutes; Microsoft, CC-BY-4.0), of which nothing but these numbers is here.

- Lengths: mixtures of log-normals, by expectation maximisation on the logarithms, as many components as bring the
  largest gap between the distribution functions (Kolmogorov-Smirnov) below 0.05: four for prompts, three for outputs.
  The narrow ones are real: fixed system prompts, and answers cut at a limit. Prompt and output are all but
  independent there (correlation 0.09 of the logarithms), and are drawn so.
- Arrivals: the gaps have a coefficient of variation of 1.09, little more than Poisson's 1; a gamma distribution by
  maximum likelihood has shape 0.89. But counts per minute vary by 25 %, where Poisson would give 5.5 %, with a
  correlation of 0.82 from one minute to the next: the rate itself wanders.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from headrace.bench.arrivals import bursty
from headrace.bench.lengths import Component, Lengths, mixture

RATE = 5.53
"""Requests a second, in the mean."""

PROMPT_COMPONENTS = (
    Component(0.203, 5.499, 1.026),
    Component(0.228, 5.987, 0.038),
    Component(0.400, 6.996, 0.099),
    Component(0.168, 8.012, 0.375),
)
PROMPT_SPAN = (2, 14_050)

OUTPUT_COMPONENTS = (
    Component(0.296, 4.729, 1.010),
    Component(0.425, 4.572, 0.357),
    Component(0.279, 6.006, 0.049),
)
OUTPUT_SPAN = (7, 1_000)

RATE_SIGMA = 0.24
"""Of the logarithm of the rate: the variation per minute without Poisson's own part."""
RATE_MEMORY_S = 300.0
GAP_SHAPE = 0.89


def prompt_lengths() -> Lengths:
    """Tokens of a prompt: half below about 1,020, one in ten above about 2,700."""
    return mixture(PROMPT_COMPONENTS, *PROMPT_SPAN)


def output_lengths() -> Lengths:
    """Tokens of an output: half below about 130, a quarter near 400."""
    return mixture(OUTPUT_COMPONENTS, *OUTPUT_SPAN)


def arrivals(rate: float, rng: random.Random) -> Iterator[float]:
    """Arrival times in seconds, `rate` a second in the long mean, as bursty as the trace."""
    return bursty(rate, rng, sigma=RATE_SIGMA, memory_s=RATE_MEMORY_S, shape=GAP_SHAPE)
