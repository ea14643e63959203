"""What the C library does with memory that the engine frees.

Every pass of the engine allocates blocks of some megabytes and frees them again. glibc gives such blocks back to the
system at once, or when enough lies free at the end of a heap, and the next pass has each page faulted in anew: with
texts to embed that is up to a seventh of the time. By itself it comes to keep larger blocks with each one that is
freed, up to a limit; here it begins with that limit.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 32 * 1024 * 1024
"""Bytes: larger blocks, such as weights, go back at once. The limit of glibc's own adjustment."""


def keep_freed_blocks() -> bool:
    """Has this process keep blocks up to that size for the next pass; False where the C library is not glibc.

    At most twice that size lies free at the end of each thread's heap.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST) and mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST))
