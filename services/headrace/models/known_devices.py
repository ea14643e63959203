"""Graphics cards that many have: memory, bandwidth and speed by their makers' data sheets."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDevice:
    """One kind of card."""

    name: str
    """As it stands in its full name, in lower case."""
    memory_bytes: int
    bandwidth: float
    """Bytes a second."""
    float16_flops: float
    """Dense, with float32 sums."""


def _card(name: str, gigabytes: int, bandwidth: float, teraflops: float) -> KnownDevice:
    return KnownDevice(
        name=name,
        memory_bytes=gigabytes * 10**9,
        bandwidth=bandwidth * 1e9,
        float16_flops=teraflops * 1e12,
    )


KNOWN = (
    _card("b200", 180, 8000, 2250),
    _card("h200", 141, 4800, 989),
    _card("h100", 80, 3350, 989),
    _card("a100", 80, 2039, 312),
    _card("l40s", 48, 864, 362),
    _card("l40", 48, 864, 181),
    _card("l4", 24, 300, 121),
    _card("a10", 24, 600, 125),
    _card("t4", 16, 320, 65),
    _card("v100", 32, 900, 125),
    _card("rtx 5090", 32, 1792, 210),
    _card("rtx 4090", 24, 1008, 165),
    _card("rtx 3090", 24, 936, 71),
)


def find_known(name: str) -> KnownDevice | None:
    """The card that `name` means, such as `h200` or `NVIDIA H200`; None for any other."""
    text = name.lower()
    return next((one for one in KNOWN if re.search(rf"(?<![a-z0-9]){one.name}(?![0-9])", text)), None)
