"""A `headrace` command at a terminal: a pseudo-terminal of a size that can be changed, and the last screen on it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

PATIENCE_S = 30.0
HOME = "\x1b[H"
"""Begins a screen."""
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class AtTerminal:
    """A context manager; leaving it kills what is left."""

    def __init__(self, *arguments: str, columns: int, lines: int) -> None:
        self._main, side = pty.openpty()
        self.said = ""
        self._size(columns, lines)
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("HEADRACE_") and name not in ("COLUMNS", "LINES")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headrace.cli", *arguments],
            stdin=side,
            stdout=side,
            stderr=side,
            env={**clean, "HEADRACE_CONFIG": os.devnull, "TERM": "xterm-256color"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C reaches it as a signal
        )
        os.close(side)

    def _size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._main, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns: int, lines: int) -> None:
        """As a person pulls at the window's corner."""
        self._size(columns, lines)

    def press(self, keys: bytes) -> None:
        os.write(self._main, keys)

    def screen(self, holds: Callable[[list[str]], bool], what: str) -> list[str]:
        """The first further screen, as its lines, for which `holds`."""
        until = time.monotonic() + PATIENCE_S
        seen = len(self.said)
        while time.monotonic() < until:
            self._read(0.5)
            for screen in self.said[seen:].split(HOME)[1:-1]:  # the last one may be half there
                lines = [_CODES.sub("", line).rstrip() for line in screen.replace("\r", "").split("\n")]
                if holds(lines):
                    return lines
        raise AssertionError(f"no screen {what} within {PATIENCE_S} s; the last is:\n{self.said[-3000:]!r}")

    def wait(self) -> int:
        """The exit code, with all that was said until then in `said`."""
        code = self.process.wait(PATIENCE_S)
        while self._read(0.1):
            pass
        return code

    def _read(self, within_s: float) -> bool:
        if not select.select([self._main], [], [], within_s)[0]:
            return False
        try:
            more = os.read(self._main, 1 << 16)
        except OSError:  # the other side is closed
            return False
        self.said += more.decode(errors="replace")
        return bool(more)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._main)
