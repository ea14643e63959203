"""That memory which the engine frees is there for its next pass."""

from __future__ import annotations

import subprocess
import sys

PASSES = """
import resource
import numpy
from headrace.worker.allocator import keep_freed_blocks

def one_pass():
    return [numpy.ones(1_500_000) for _ in range(4)]

kept = keep_freed_blocks()
for _ in range(3):
    one_pass()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    one_pass()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Ten of 48 MB each, in blocks of 12 MB: 120,000 pages."""


def test_blocks_that_were_freed_are_not_faulted_in_anew() -> None:
    """Pass after pass in the same pages, where the C library lets itself be told so."""
    done = subprocess.run(
        [sys.executable, "-c", PASSES], capture_output=True, text=True, timeout=60, check=True
    )
    kept, faults = map(int, done.stdout.split())
    assert not kept or faults < 10_000
