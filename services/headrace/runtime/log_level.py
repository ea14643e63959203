"""The level of the log, changed while a process runs: by an operator's call, or by a signal. `kill -USR1` has it tell
all, `kill -USR2` what it was set to; `headrace up` passes both on to its processes.

The line that says so is written in any case.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from types import FrameType

import structlog

from headrace.contract.log_level import LogLevel

log = structlog.get_logger(__name__)

MORE, AS_SET = signal.SIGUSR1, signal.SIGUSR2


def change_level_on_signals(level: str, pass_on: Callable[[int], None] = lambda number: None) -> None:
    """Listens from now on, in the main thread. `level` is the one that the settings ask for; `pass_on` is told the
    signal's number.
    """

    def changed(number: int, frame: FrameType | None) -> None:
        change_level(LogLevel.DEBUG if number == MORE else LogLevel.AS_SET, level)
        pass_on(number)

    signal.signal(MORE, changed)
    signal.signal(AS_SET, changed)


def change_level(wanted: LogLevel, as_set: str) -> None:
    """Writes lines from `wanted` up from now on. `as_set` is the level that the settings ask for."""
    word = as_set if wanted is LogLevel.AS_SET else wanted.value
    ours = logging.getLogger("headrace")
    ours.setLevel(logging.INFO)
    log.info("log.level", least=word)  # `level` is the line's own
    ours.setLevel(getattr(logging, word.upper()))
