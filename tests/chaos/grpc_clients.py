"""Clients of the gateways: each asks, reads as its way is, attaches elsewhere where its gateway is lost, and fetches by
id what it did not read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from headrace.contract.errors import DeadlinePassed, DuplicateRequest, HeadraceError, InvalidRequest, NotFound
from headrace.contract.values import Accepted, Outcome, TokenChunk
from tests.chaos.asked import Way
from tests.chaos.doors import Door, Event
from tests.chaos.reading import Call, Reading
from tests.chaos.seen import Seen

ASK_AGAIN_S = 0.25
"""Between two tries of the same."""
PATIENCE_S = 6.0
"""For the first event of a stream; then the other gateway is asked, for the same id."""
RESULT_WAIT_S = 3.0
"""Of one GetResult; then the other gateway is asked."""
RIVAL = " and something else"
"""What a rival asks besides."""


class GrpcClients:
    """What all clients of gateways share. `until_s` ends their patience: `time.monotonic`, set when the load ends."""

    def __init__(self, doors: Sequence[Door]) -> None:
        self._doors = doors
        self.until_s = float("inf")

    async def ask(self, seen: Seen) -> None:
        """One request, from the first try to its outcome."""
        match seen.asked.way:
            case Way.SUBMIT:
                await self._submit(seen)
            case Way.COME_BACK:
                await self._come_back(seen)
            case Way.AGAIN:
                await self._twice(seen)
            case _:
                await self._read(seen, seen.reads())
        if seen.accepted and not any(reading.finished for reading in seen.readings):
            await self._fetch(seen)

    @property
    def _patient(self) -> bool:
        return time.monotonic() < self.until_s

    def _door(self, seen: Seen, turn: int) -> Door:
        return self._doors[(seen.asked.gateway + turn) % len(self._doors)]

    async def _submit(self, seen: Seen) -> None:
        turn = 0
        seen.first_asked_s = time.monotonic()
        while not seen.accepted and not seen.refused and self._patient:
            door = self._door(seen, turn)
            try:
                await door.submit(seen.asked)
            except HeadraceError as error:
                await self._refused(seen, door, error)
                turn += 1
            else:
                seen.accept(f"by {door.name}")
        if seen.accepted and seen.asked.rival:
            await self._rival(seen)

    async def _come_back(self, seen: Seen) -> None:
        await self._submit(seen)
        if not seen.accepted:
            return
        await asyncio.sleep(seen.asked.pause_s)
        await self._read(seen, whole := seen.reads())
        if whole.finished:
            await self._read(seen, seen.reads(first=min(seen.asked.act_at, whole.next_index)))

    async def _twice(self, seen: Seen) -> None:
        first, second = seen.reads(), seen.reads()

        async def again() -> None:
            await seen.acted.wait()
            if seen.accepted:
                await self._read(seen, second, turn=1, again=True)

        async with asyncio.TaskGroup() as group:
            group.create_task(again(), name=f"{seen.asked.name} again")
            await self._read(seen, first)
            seen.acted.set()

    async def _read(self, seen: Seen, reading: Reading, *, turn: int = 0, again: bool = False) -> None:
        """Reads to the end of the answer, in as many calls as it takes. `again`: it is asked for as if for the first
        time, though it was accepted.
        """
        while reading.finished is None and not seen.refused and self._patient:
            door = self._door(seen, turn)
            if seen.accepted and not again:
                call = seen.dials(reading, door.name, "attaches to")
                events = door.attach(seen.asked, reading.next_index)
            else:
                call = seen.dials(reading, door.name)
                events = door.generate(seen.asked)
            try:
                if await self._read_call(seen, reading, call, door, events):
                    return
            except (HeadraceError, TimeoutError) as error:
                if isinstance(error, DeadlinePassed) and seen.asked.timeout_s is not None:
                    seen.note(f"{door.name}: {error}")
                    return  # its client wants nothing more; whether it was accepted is known
                await self._failed(seen, call, door, error)
            finally:
                call.ended_s = time.monotonic()
            again = again and not call.answered
            turn += 1

    async def _failed(self, seen: Seen, call: Call, door: Door, error: Exception) -> None:
        if call.answered and seen.accepted:
            seen.breaks(call, f"{type(error).__name__}: {error}")
        else:
            await self._refused(seen, door, error)

    async def _refused(self, seen: Seen, door: Door, error: Exception) -> None:
        if isinstance(error, DuplicateRequest):
            seen.denied = door.name
            seen.accept(f"{door.name} says that the id is in use")
        elif isinstance(error, InvalidRequest):
            seen.refuse(f"{door.name}: {error}")
        else:
            seen.note(f"{door.name} refused: {type(error).__name__}: {error}")
            await asyncio.sleep(ASK_AGAIN_S)

    async def _read_call(
        self, seen: Seen, reading: Reading, call: Call, door: Door, events: AsyncGenerator[Event]
    ) -> bool:
        """Reads to the end of the call, or until its client hangs up; whether it did."""
        async with asyncio.timeout(PATIENCE_S) as patience, aclosing(events):
            async for event in events:
                patience.reschedule(None)
                call.answered = True
                match event:
                    case Accepted() if not seen.accepted:
                        seen.accept(f"by {door.name}")
                    case TokenChunk():
                        reading.take(event)
                    case Outcome():
                        reading.finish(event)
                        seen.finish(event)
                        continue
                if reading is seen.readings[0] and await self._acts(seen, reading, door):
                    return True
        return False

    async def _acts(self, seen: Seen, reading: Reading, door: Door) -> bool:
        """What its way has a client do after an event. Whether it hangs up."""
        asked = seen.asked
        if asked.way is Way.SLOW:
            await asyncio.sleep(asked.pause_s)
        if reading.next_index < asked.act_at:
            return False
        seen.acted.set()
        if asked.rival and not any(what.startswith("rival") for _, what in seen.notes):
            await self._rival(seen)
        if asked.way is Way.HANG_UP:
            seen.cancels("hangs up")
            return True
        if asked.way is Way.CANCEL and seen.cancelled_s is None:
            seen.cancels("cancels")
            try:
                seen.tell(await door.client.cancel(asked.request_id, tenant=asked.tenant))
            except HeadraceError as error:
                seen.note(f"not cancelled: {error}")
        return False

    async def _rival(self, seen: Seen) -> None:
        """Somebody asks for something else under the same id."""
        door = self._door(seen, 1)
        other = replace(seen.asked, prompt=seen.asked.prompt + RIVAL, timeout_s=None)
        try:
            await door.submit(other)
        except HeadraceError as error:
            seen.note(f"rival refused by {door.name}: {type(error).__name__}: {error}")
        else:
            seen.usurped = True
            seen.note(f"rival accepted by {door.name}")

    async def _fetch(self, seen: Seen) -> None:
        turn = 0
        asked = seen.asked
        while self._patient:
            door = self._door(seen, turn)
            try:
                seen.fetched(
                    await door.client.result(asked.request_id, tenant=asked.tenant, wait_s=RESULT_WAIT_S)
                )
                return
            except NotFound:
                seen.note(f"{door.name} has no result yet")
            except HeadraceError as error:
                seen.note(f"{door.name} gives no result: {error}")
                await asyncio.sleep(ASK_AGAIN_S)
            turn += 1
