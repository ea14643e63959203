"""All clients of a run, and the blows that fall meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from tests.chaos.asked import Way, requests_of
from tests.chaos.blows import Blows
from tests.chaos.grpc_clients import GrpcClients
from tests.chaos.nats_clients import NatsClients
from tests.chaos.options import Options
from tests.chaos.pace import Pace
from tests.chaos.schedule import LAST_S, VICTIMS, blows_of
from tests.chaos.seen import Seen

MIX = (
    (Way.STREAM, 0.28),
    (Way.NATS, 0.16),
    (Way.SUBMIT, 0.1),
    (Way.COME_BACK, 0.08),
    (Way.AGAIN, 0.06),
    (Way.CANCEL, 0.1),
    (Way.DEADLINE, 0.08),
    (Way.SLOW, 0.05),
    (Way.HANG_UP, 0.06),
    (Way.NATS_CANCEL, 0.03),
)
"""The clients' shares."""
SETTLE_S = 45.0
"""How long after the load everything gets to end: the longest waits of all parts, one after the other, and a little."""
TOLD_EVERY_S = 10.0


class Load:
    """Writer of `seen`, which has every request in the order in which they were asked."""

    def __init__(self, options: Options, tell: Callable[[str], None]) -> None:
        self._options = options
        self._tell = tell
        self._pace = Pace(options.rate)
        self._asking = True
        self.seen: list[Seen] = []
        self.start_s = 0.0
        self.rounds = 0
        """Of a rolling restart."""

    async def run(self, grpc: GrpcClients, raw: NatsClients, blows: Blows) -> None:
        """The load and the blows at once; then the time that everything has to end."""
        self.start_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            clients = [
                group.create_task(self._client(name, way, (raw if way.by_nats else grpc).ask), name=name)
                for name, way in _clients(self._options.clients)
            ]
            ticker = group.create_task(self._tick(blows), name="ticker")
            await self._strike(blows)
            await asyncio.sleep(LAST_S)
            self._asking = False
            grpc.until_s = raw.until_s = time.monotonic() + SETTLE_S
            self._tell("the load ends; waiting for what was asked")
            _, left = await asyncio.wait(clients, timeout=SETTLE_S + 10)
            ticker.cancel()
            for client in left:
                client.cancel()

    async def _strike(self, blows: Blows) -> None:
        options = self._options

        def enough() -> bool:
            return (
                time.monotonic() >= self.start_s + options.duration_s - LAST_S
                and len(self.seen) >= options.requests
                and blows.kills >= options.kills
            )

        if options.rolling:
            self.rounds = await blows.roll(VICTIMS, self.start_s, enough)
        else:
            await blows.deal(blows_of(random.Random(options.seed), options.plan), self.start_s, enough)

    async def _client(self, name: str, way: Way, ask: Callable[[Seen], Awaitable[None]]) -> None:
        options = self._options
        for asked in requests_of(options.seed, name, way, options.prompts, options.odds, options.think_s):
            await asyncio.sleep(asked.think_s)
            await self._pace.turn()
            if not self._asking:
                return
            seen = Seen(asked)
            self.seen.append(seen)
            await ask(seen)
            seen.ended_s = time.monotonic()

    async def _tick(self, blows: Blows) -> None:
        while True:
            await asyncio.sleep(TOLD_EVERY_S)
            at_s = time.monotonic() - self.start_s
            under_way = sum(not seen.ended_s for seen in self.seen)
            faults = sum(len(reading.faults) for seen in self.seen for reading in seen.readings)
            self._tell(
                f"{at_s:6.0f} s  {len(self.seen)} requests ({len(self.seen) / at_s:.1f}/s), {under_way} under way, "
                f"{blows.kills} kills, {len(blows.struck) - blows.kills} other blows, {faults} faults seen"
            )


def _clients(count: int) -> list[tuple[str, Way]]:
    """Names and ways, in the shares of the mix; at least one of each."""
    out = []
    for way, share in MIX:
        out += [(f"{way.value} {number}", way) for number in range(max(1, round(share * count)))]
    return out
