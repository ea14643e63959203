"""Ports that are free now, and stay so: not those that the kernel gives to whoever asks."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.cli import addresses

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """So many, all different."""
    return addresses.free_ports([LOOPBACK] * count)


def named_ports(names: Sequence[str]) -> dict[str, int]:
    """One for each name."""
    return dict(zip(names, free_ports(len(names)), strict=True))
