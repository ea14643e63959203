"""The embedded server is started again after its disk was full, and not before there is room."""

from __future__ import annotations

import asyncio
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from headrace.cli import full_disk
from headrace.cli.full_disk import FullDisk
from headrace.runtime.nats_output import ServerOutput

SAID = (
    "[17] 2026/11/25 03:45:23.912712 [ERR] Filestore [HEADRACE_REQUESTS] Critical write error:"
    " write /data/jetstream/$G/streams/HEADRACE_REQUESTS/msgs/1.blk: no space left on device"
)
Usage = namedtuple("Usage", "total used free")


async def test_it_is_started_again_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each time that it was full, however often the server says so."""
    free = [0]
    looked, restarted = asyncio.Event(), asyncio.Event()

    def usage(folder: Path) -> Usage:
        assert folder == tmp_path
        looked.set()
        return Usage(0, 0, free[0])

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr(full_disk, "LOOK_EVERY_S", 0.01)
    output = ServerOutput("127.0.0.1", 4222)
    restarts: list[str] = []

    def restart() -> None:
        restarts.append("nats")
        restarted.set()

    disk = FullDisk(output, tmp_path, restart)
    disk.look()
    assert not looked.is_set(), "a disk that is not full is not asked"
    for _ in range(3):
        output.feed(SAID)
        disk.look()
    for _ in range(3):
        looked.clear()
        await asyncio.wait_for(looked.wait(), 5)
    assert not restarts
    free[0] = full_disk.ROOM_BYTES
    await asyncio.wait_for(restarted.wait(), 5)
    disk.look()
    assert len(restarts) == 1
    output.feed(SAID)
    disk.look()
    assert len(restarts) == 2
