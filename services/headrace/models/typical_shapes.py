"""What a model of so many parameters typically looks like, for a plan before there is a model."""

from __future__ import annotations

import re
from dataclasses import replace
from math import log

from headrace.models.network_shape import NetworkShape, count_parameters

_COUNT = re.compile(r"(\d{1,6}(?:\.\d{1,4})?)\s*([MBT])", re.IGNORECASE)
_UNITS = {"M": 10**6, "B": 10**9, "T": 10**12}
_LEAST, _MOST = 10**6, 10**13
_HEAD_DIM = 64, 128
_SAME = 0.1
"""A model that is called 7B has 6.7."""
_LARGE_WIDTH = 2048
"""From here on heads are of 128 numbers."""

# layers, width, inner, kv heads, vocabulary, context: of open models that many have run.
_KNOWN = (
    (12, 768, 2048, 12, 32_000, 2048),
    (30, 576, 1536, 3, 49_152, 8192),
    (24, 896, 4864, 2, 151_936, 32_768),
    (22, 2048, 5632, 4, 32_000, 2048),
    (28, 3072, 8192, 8, 128_256, 8192),
    (32, 4096, 11_008, 32, 32_000, 4096),
    (32, 4096, 14_336, 8, 128_256, 8192),
    (40, 5120, 13_824, 40, 32_000, 4096),
    (60, 6656, 17_920, 52, 32_000, 4096),
    (80, 8192, 28_672, 8, 32_000, 4096),
    (126, 16_384, 53_248, 8, 128_256, 8192),
)


def parse_count(text: str) -> int | None:
    """The parameters that `text` means, such as `7B` or `135M`; None where it is no such thing. Raises ValueError where
    there are too few or too many.
    """
    found = _COUNT.fullmatch(text.strip())
    if found is None:
        return None
    count = round(float(found[1]) * _UNITS[found[2].upper()])
    if not _LEAST <= count <= _MOST:
        raise ValueError(f"{text} parameters: a plan is for 1M to 10T")
    return count


def typical_shape(parameters: int) -> NetworkShape:
    """The shape of the known model that is nearest in size, with more or fewer layers where it is another."""
    nearest = min(map(_shape, _KNOWN), key=lambda one: abs(log(one.parameters / parameters)))
    ratio = parameters / nearest.parameters
    layers = nearest.layers if abs(ratio - 1) < _SAME else max(1, round(nearest.layers * ratio))
    return replace(
        nearest,
        layers=layers,
        parameters=parameters,
        assumed=f"a typical shape: {layers} layers of {nearest.width}, {nearest.heads} heads,"
        f" a vocabulary of {nearest.vocabulary:,}, {nearest.context_length:,} tokens of context",
    )


def _shape(known: tuple[int, int, int, int, int, int]) -> NetworkShape:
    layers, width, inner, kv_heads, vocabulary, context = known
    head_dim = _HEAD_DIM[width >= _LARGE_WIDTH]
    heads = width // head_dim
    return NetworkShape(
        layers=layers,
        width=width,
        inner=inner,
        heads=heads,
        head_dim=head_dim,
        vocabulary=vocabulary,
        parameters=count_parameters(
            layers=layers,
            width=width,
            inner=inner,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            vocabulary=vocabulary,
        ),
        context_length=context,
    )
