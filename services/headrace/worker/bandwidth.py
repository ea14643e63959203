"""How fast this machine's memory is, measured in a moment."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

_BLOCK_BYTES = 64 << 20
"""Of each thread: more than any core's share of the caches."""
_MOST_THREADS = 16
_SECONDS = 0.2


def measure_bandwidth(threads: int) -> float:
    """Bytes a second that `threads` threads read and write together. Takes a fifth of a second, and on a machine that
    does other things gives what those leave.
    """
    threads = min(threads, _MOST_THREADS)
    until_s = time.perf_counter() + _SECONDS
    with ThreadPoolExecutor(threads, thread_name_prefix="bandwidth") as pool:
        return sum(pool.map(_copy, [until_s] * threads))


def _copy(until_s: float) -> float:
    source = np.ones(_BLOCK_BYTES // 8)
    target = np.empty_like(source)
    np.copyto(target, source)  # the pages of both are there from here on
    copies, began_s = 0, time.perf_counter()
    while not copies or time.perf_counter() < until_s:
        np.copyto(target, source)
        copies += 1
    return 2 * copies * _BLOCK_BYTES / (time.perf_counter() - began_s)
