"""Carries out the schedule."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.mesh import Mesh
from tests.chaos.schedule import Act, Blow


@dataclass(slots=True, kw_only=True)
class Struck:
    """A blow that was dealt. Times are `time.monotonic`."""

    blow: Blow
    began_s: float
    back_s: float = float("inf")
    """When its process was started or continued."""


class Blows:
    """Deals them. Writer of `struck`."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self.struck: list[Struck] = []

    async def deal(self, schedule: Sequence[Blow], start_s: float) -> None:
        """Each at its time after `start_s`; returns when all victims are back."""
        async with asyncio.TaskGroup() as group:
            for blow in schedule:
                await asyncio.sleep(start_s + blow.at_s - time.monotonic())
                group.create_task(self._deal(blow), name=str(blow))

    async def _deal(self, blow: Blow) -> None:
        struck = Struck(blow=blow, began_s=time.monotonic())
        self.struck.append(struck)
        match blow.act:
            case Act.KILL:
                await self._mesh.kill(blow.victim)
                await asyncio.sleep(blow.down_s)
                await self._mesh.start(blow.victim)
            case Act.DRAIN:
                await self._mesh.drain(blow.victim)
                await asyncio.sleep(blow.down_s)
                await self._mesh.start(blow.victim)
            case Act.HANG:
                self._mesh.signal(blow.victim, signal.SIGSTOP)
                await asyncio.sleep(blow.down_s)
                self._mesh.signal(blow.victim, signal.SIGCONT)
        struck.back_s = time.monotonic()
