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
from tests.chaos.schedule import draw_schedule
from tests.chaos.seen import Seen

MIX = (
    (Way.STREAM, 0.34),
    (Way.NATS, 0.2),
    (Way.SUBMIT, 0.14),
    (Way.CANCEL, 0.1),
    (Way.DEADLINE, 0.1),
    (Way.SLOW, 0.06),
    (Way.HANG_UP, 0.06),
)
"""The clients' shares."""
SETTLE_S = 45.0
"""How long after the load everything gets to end: the longest waits of all parts, one after the other, and a little."""


class Load:
    """Writer of `seen`, which has every request in the order in which they were asked."""

    def __init__(self, options: Options, tell: Callable[[str], None]) -> None:
        self._options = options
        self._tell = tell
        self._asking = True
        self.seen: list[Seen] = []
        self.start_s = 0.0

    async def run(self, grpc: GrpcClients, raw: NatsClients, blows: Blows) -> None:
        """The load and the blows at once; then the time that everything has to end."""
        options = self._options
        schedule = draw_schedule(
            random.Random(options.seed), duration_s=options.duration_s, every_s=options.every_s
        )
        self.start_s = time.monotonic()
        clients = [
            asyncio.create_task(self._client(name, way, (raw if way is Way.NATS else grpc).ask), name=name)
            for name, way in _clients(options.clients)
        ]
        ticker = asyncio.create_task(self._tick(), name="ticker")
        await blows.deal(schedule, self.start_s)
        await asyncio.sleep(self.start_s + options.duration_s - time.monotonic())
        self._asking = False
        grpc.until_s = raw.until_s = time.monotonic() + SETTLE_S
        self._tell("the load ends; waiting for what was asked")
        _, left = await asyncio.wait(clients, timeout=SETTLE_S + 10)
        ticker.cancel()
        for client in left:
            client.cancel()
        for client in clients:
            if client.done() and not client.cancelled():
                client.result()

    async def _client(self, name: str, way: Way, ask: Callable[[Seen], Awaitable[None]]) -> None:
        options = self._options
        requests = requests_of(
            options.seed,
            name,
            way,
            options.prompts,
            poison_odds=options.poison_odds if options.fake else 0.0,
            sampled_odds=options.sampled_odds,
            think_s=options.think_s,
        )
        for asked in requests:
            await asyncio.sleep(asked.think_s)
            if not self._asking:
                return
            seen = Seen(asked)
            self.seen.append(seen)
            await ask(seen)
            seen.ended_s = time.monotonic()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(10)
            under_way = sum(not seen.ended_s for seen in self.seen)
            self._tell(
                f"{time.monotonic() - self.start_s:6.0f} s  {len(self.seen)} requests, {under_way} under way"
            )


def _clients(count: int) -> list[tuple[str, Way]]:
    """Names and ways, in the shares of the mix; at least one of each."""
    out = []
    for way, share in MIX:
        out += [(f"{way.value} {number}", way) for number in range(max(1, round(share * count)))]
    return out
