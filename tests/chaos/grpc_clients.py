"""Clients of the gateways: each asks, reads as its way is, and fetches by id what a lost stream did not bring."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing

from headrace.contract.errors import DeadlinePassed, DuplicateRequest, HeadraceError, NotFound
from headrace.contract.values import Accepted, Outcome, TokenChunk
from tests.chaos.asked import Way
from tests.chaos.doors import Door
from tests.chaos.seen import Seen

ASK_AGAIN_S = 0.25
"""Between two tries of a request that was not accepted."""
PATIENCE_S = 6.0
"""For the first event of a stream; then the other gateway is asked, for the same id."""
RESULT_WAIT_S = 3.0
"""Of one GetResult; then the other gateway is asked."""


class GrpcClients:
    """What all clients of gateways share. `until_s` ends their patience: `time.monotonic`, set when the load ends."""

    def __init__(self, doors: Sequence[Door]) -> None:
        self._doors = doors
        self.until_s = float("inf")

    async def ask(self, seen: Seen) -> None:
        """One request, from the first try to its outcome."""
        if seen.asked.way is Way.SUBMIT:
            await self._submit(seen)
        else:
            await self._stream(seen)
        if seen.accepted and seen.finished is None:
            await self._fetch(seen)

    def _door(self, seen: Seen, turn: int) -> Door:
        return self._doors[(seen.asked.gateway + turn) % len(self._doors)]

    async def _submit(self, seen: Seen) -> None:
        turn = 0
        while not seen.accepted and time.monotonic() < self.until_s:
            door = self._door(seen, turn)
            try:
                await door.submit(seen.asked)
            except DuplicateRequest:
                seen.accept(f"{door.name} says that the id is in use")
            except HeadraceError as error:
                await self._refused(seen, door, error)
                turn += 1
            else:
                seen.accept(f"by {door.name}")

    async def _stream(self, seen: Seen) -> None:
        turn = 0
        while time.monotonic() < self.until_s:
            door = self._door(seen, turn)
            seen.gateway = door.name
            try:
                await self._read(seen, door)
                return
            except DuplicateRequest:
                seen.accept(f"{door.name} says that the id is in use")
                return
            except DeadlinePassed as error:
                seen.note(f"{door.name}: {error}")
                return  # its client wants nothing more; whether it was accepted is known
            except (HeadraceError, TimeoutError) as error:
                if seen.accepted:
                    seen.break_off(f"{type(error).__name__}: {error}")
                    return
                await self._refused(seen, door, error)
                turn += 1

    async def _refused(self, seen: Seen, door: Door, error: Exception) -> None:
        seen.note(f"{door.name} refused: {type(error).__name__}: {error}")
        await asyncio.sleep(ASK_AGAIN_S)

    async def _read(self, seen: Seen, door: Door) -> None:
        seen.note(f"asks {door.name}")
        async with asyncio.timeout(PATIENCE_S) as patience, aclosing(door.generate(seen.asked)) as events:
            async for event in events:
                patience.reschedule(None)
                match event:
                    case Accepted():
                        seen.accept(f"by {door.name}")
                    case TokenChunk():
                        seen.take(event)
                    case Outcome():
                        seen.finish(event)
                        return
                if await self._acts(seen, door):
                    return

    async def _acts(self, seen: Seen, door: Door) -> bool:
        """What its way has a client do after an event. Whether it hangs up."""
        asked = seen.asked
        if asked.way is Way.SLOW:
            await asyncio.sleep(asked.pause_s)
        if len(seen.ids) < asked.act_at:
            return False
        if asked.way is Way.HANG_UP:
            seen.note("hangs up")
            return True
        if asked.way is Way.CANCEL and not any(what == "cancels" for _, what in seen.notes):
            seen.note("cancels")
            try:
                seen.told.append(await door.client.cancel(asked.request_id))
                seen.note(f"told that it is {seen.told[-1].value}")
            except HeadraceError as error:
                seen.note(f"not cancelled: {error}")
        return False

    async def _fetch(self, seen: Seen) -> None:
        turn = 0
        while time.monotonic() < self.until_s:
            door = self._door(seen, turn)
            try:
                seen.fetched(await door.client.result(seen.asked.request_id, wait_s=RESULT_WAIT_S))
                return
            except NotFound:
                seen.note(f"{door.name} has no result yet")
            except HeadraceError as error:
                seen.note(f"{door.name} gives no result: {error}")
                await asyncio.sleep(ASK_AGAIN_S)
            turn += 1
