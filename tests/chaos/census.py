"""Memory and open files of the processes, sampled while they live."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import psutil

from tests.chaos.mesh import Mesh

EVERY_S = 2.0
SETTLED_S = 10.0
"""The age from which a process has loaded all that it needs."""


@dataclass(slots=True, kw_only=True)
class Size:
    """One life of one process."""

    name: str
    number: int
    age_s: float = 0.0
    first_mib: float = 0.0
    """At `SETTLED_S`, or at the last look before."""
    last_mib: float = 0.0
    most_mib: float = 0.0
    first_files: int = 0
    last_files: int = 0
    most_files: int = 0


class Census:
    """Sizes by (name, life). Writer: `run`."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self.sizes: dict[tuple[str, int], Size] = {}

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(EVERY_S)

    def look(self) -> None:
        for name, life in self._mesh.lives.items():
            if life.process.returncode is not None:
                continue
            try:
                process = psutil.Process(life.pid)
                mib, files = process.memory_info().rss / 2**20, process.num_fds()
            except psutil.Error:
                continue
            size = self.sizes.setdefault((name, life.number), Size(name=name, number=life.number))
            if size.age_s < SETTLED_S:
                size.first_mib, size.first_files = mib, files
            size.age_s = time.monotonic() - life.began_s
            size.last_mib, size.last_files = mib, files
            size.most_mib, size.most_files = max(size.most_mib, mib), max(size.most_files, files)
