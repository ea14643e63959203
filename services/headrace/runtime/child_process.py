"""A child process that does not outlive its parent."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# Asks the kernel for SIGTERM when the parent goes, checks that it has not gone already, and becomes the program.
# A tiny program of its own, because code between fork and exec (`preexec_fn`) can deadlock where threads run.
_TIE = """
import ctypes, os, sys
ctypes.CDLL(None, use_errno=True).prctl(1, 15, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent process is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def tied_to_parent(argv: Sequence[str]) -> list[str]:
    """`argv`, started such that the child gets SIGTERM when this process ends in whatever way, kill -9 included.

    Linux only; elsewhere `argv` comes back as it is. The kernel watches the *thread* that starts the child: start it
    from one that lives as long as the process, such as the main thread, never from an executor's.
    """
    if sys.platform != "linux":
        return list(argv)
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *argv]
