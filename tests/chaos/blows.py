"""Carries out the schedule."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.chaos.mesh import Mesh
from tests.chaos.schedule import NATS, VICTIMS, Act, Blow


@dataclass(slots=True, kw_only=True)
class Struck:
    """A blow that was dealt. Times are `time.monotonic`."""

    blow: Blow
    began_s: float
    back_s: float = float("inf")
    """When its process was started, continued or joined again."""


class Blows:
    """Deals them. Writer of `struck`."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._hit = {name: asyncio.Lock() for name in VICTIMS}
        """Held until a victim is back: the next blow waits for that, or two lives of it would begin."""
        self.struck: list[Struck] = []

    @property
    def kills(self) -> int:
        return sum(hit.blow.act is Act.KILL for hit in self.struck)

    async def deal(self, blows: Iterable[Blow], start_s: float, enough: Callable[[], bool]) -> None:
        """Each at its time after `start_s`, until it is enough; returns when all victims are back."""
        async with asyncio.TaskGroup() as group:
            for blow in blows:
                await asyncio.sleep(start_s + blow.at_s - time.monotonic())
                if enough():
                    return
                group.create_task(self._deal(blow), name=str(blow))

    async def _deal(self, blow: Blow) -> None:
        async with self._hit[blow.victim]:
            await self._strike(blow)

    async def _strike(self, blow: Blow) -> None:
        struck = Struck(blow=blow, began_s=time.monotonic())
        self.struck.append(struck)
        mesh, victim = self._mesh, blow.victim
        match blow.act:
            case Act.KILL:
                await mesh.kill(victim)
                await asyncio.sleep(blow.down_s)
                await mesh.start(victim)
            case Act.DRAIN:
                await mesh.drain(victim, by_service=blow.by_service)
                await asyncio.sleep(blow.down_s)
                await mesh.start(victim)
            case Act.HANG:
                mesh.signal(victim, signal.SIGSTOP)
                await asyncio.sleep(blow.down_s)
                mesh.signal(victim, signal.SIGCONT)
            case Act.PART:
                assert blow.cut is not None, "a parting says how"
                join = mesh.network.part(blow.apart, blow.cut, of_near=blow.of_near)
                await asyncio.sleep(blow.down_s)
                join()
        struck.back_s = time.monotonic()

    async def roll(self, victims: Sequence[str], start_s: float, enough: Callable[[], bool]) -> int:
        """Drains each in turn, starts its successor and waits until that serves; round after round, at least one.

        Gives the rounds.
        """
        rounds = number = 0
        while not rounds or not enough():
            for victim in victims:
                number += 1
                now_s = time.monotonic()
                blow = Blow(
                    number=number,
                    at_s=now_s - start_s,
                    victim=victim,
                    act=Act.DRAIN,
                    down_s=0.0,
                    by_service=number % 2 == 0 and victim != NATS,
                )
                struck = Struck(blow=blow, began_s=now_s)
                self.struck.append(struck)
                await self._mesh.drain(victim, by_service=blow.by_service)
                await self._mesh.start(victim)
                await self._mesh.serves(victim)
                struck.back_s = time.monotonic()
            rounds += 1
        return rounds
