"""What a child process writes: its lines, and the reason it gives when it cannot start."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

_CHUNK = 64 * 1024
_LONGEST_LINE = 16 * 1024  # bytes; what is longer comes in pieces, so that no line grows without bound
_KEPT = 20


async def read_lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """The lines of `stream`, until its writer closes it."""
    rest = b""
    while chunk := await stream.read(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield _text(line)
        if len(rest) >= _LONGEST_LINE:
            yield _text(rest)
            rest = b""
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip()


class LastWords:
    """The last lines of a child, and what they say about its end. Writer: the one who reads its output."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_KEPT)

    def add(self, line: str) -> None:
        """Takes a line; empty ones say nothing."""
        if line.strip():
            self._lines.append(line)

    @property
    def reason(self) -> str:
        """What the child itself says (`headrace: …`), else its last line, else that it said nothing."""
        said = [line.removeprefix("headrace: ") for line in self._lines if line.startswith("headrace: ")]
        if said:
            return "; ".join(said)
        return self._lines[-1].strip() if self._lines else "it said nothing"
