"""Ports for servers that are started again and again at the same ones."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable


def free_ports(names: Iterable[str]) -> dict[str, int]:
    """One for each name, below the range that the kernel takes client ports from: a client that dials a dead server's
    port there may get that very port as its own, and be connected to itself.
    """
    ports: dict[str, int] = {}
    for name in names:
        while name not in ports:
            port = random.SystemRandom().randrange(20_000, 32_000)
            if port not in ports.values() and _is_free(port):
                ports[name] = port
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
