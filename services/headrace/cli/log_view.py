"""The lines of several processes in one stream, each under the name of the one that wrote it."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence
from typing import TextIO, cast

from rich.console import Console
from rich.text import Text

from headrace.cli.log_line import rendered

_COLOURS = ("cyan", "green", "magenta", "blue", "bright_cyan", "bright_magenta")
_OWN_COLOUR = "bright_black"


class LogView:
    """Writes lines to stderr; JSON ones are made readable.

    With `raw` they go out as they are: each JSON line names its process itself.
    """

    def __init__(self, names: Sequence[str], *, raw: bool = False, stream: TextIO | None = None) -> None:
        """`names` are all that will write, in the order of their colours."""
        self._raw = raw
        self._width = max(map(len, names), default=0)
        self._colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}
        self._console = _PatientConsole(
            file=stream or sys.stderr, highlight=False, markup=False, emoji=False, soft_wrap=True
        )

    def show(self, name: str, line: str) -> None:
        """One line of `name`. Where nobody reads any more it is dropped: a log must not end a mesh."""
        with contextlib.suppress(OSError):
            self._show(name, line)

    def _show(self, name: str, line: str) -> None:
        if self._raw:
            self._console.file.write(f"{line}\n")
            self._console.file.flush()
            return
        for text in rendered(line):
            self._console.print(
                Text(f"{name:{self._width}} │ ", style=self._colours.get(name, _OWN_COLOUR)), text, sep=""
            )

    def stream(self, name: str) -> TextIO:
        """A stream whose lines are shown as those of `name`: for this process's own log."""
        return cast(TextIO, _Lines(self, name))


class _PatientConsole(Console):
    def on_broken_pipe(self) -> None:
        """Nobody reads any more: rich would end the process here."""
        self.quiet = True


class _Lines(io.TextIOBase):
    """A text stream that is no terminal. Writer of `_rest`: `write`."""

    def __init__(self, view: LogView, name: str) -> None:
        self._view = view
        self._name = name
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._view.show(self._name, line)
        return len(text)
