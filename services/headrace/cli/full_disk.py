"""The embedded NATS server on a disk that was full: started again once there is room.

A nats-server gives a stream up at the first write that fails: it stores nothing more there, and does not answer who
publishes, until it is started anew.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import structlog

from headrace.runtime.nats_output import ServerOutput

log = structlog.get_logger(__name__)

ROOM_BYTES = 64 * 1024 * 1024
"""Free again before a start makes sense: the server writes blocks of 8 MiB, and has six streams."""
LOOK_EVERY_S = 2.0
"""How often the disk is asked; only after it was full."""


class FullDisk:
    """Hears what the server says, and has it started again. Runs on the event loop."""

    def __init__(self, output: ServerOutput, folder: Path, restart: Callable[[], None]) -> None:
        """`folder` is the server's store; `restart` ends the server, whose supervisor starts it again."""
        self._output = output
        self._folder = folder
        self._restart = restart
        self._waiting = False

    def look(self) -> None:
        """To be called after each line of the server's."""
        if self._output.store_failed and not self._waiting:
            self._waiting = True
            log.error(
                "the disk of the NATS server is full: nothing new is taken, and outcomes wait;"
                " it is started again when there is room",
                folder=str(self._folder),
                needed_bytes=ROOM_BYTES,
            )
            self._when_there_is_room()

    def _when_there_is_room(self) -> None:
        if shutil.disk_usage(self._folder).free < ROOM_BYTES:
            asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._when_there_is_room)
            return
        self._waiting = False
        self._output.store_failed = False
        log.info("there is room again: the NATS server is started anew")
        self._restart()
