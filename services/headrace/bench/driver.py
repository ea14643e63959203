"""Plays a load against a gateway and records what each consumer sees."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeAlias

from headrace.bench.record import NOT_SENT, Record
from headrace.client.client import HeadraceClient
from headrace.contract.errors import HeadraceError
from headrace.contract.values import Outcome, TokenChunk

Sent: TypeAlias = Callable[[Record], None]
"""Told of each request that has ended."""

MAX_IN_FLIGHT = 10_000
"""Requests under way at once in an open loop. Further ones are not sent, and counted as errors: the mesh is far
behind, and more would measure the driver's memory.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToSend:
    """A request with its prompt."""

    index: int
    prompt: str
    prompt_tokens: int
    output_tokens: int
    priority: str
    arrival_s: float


class Driver:
    """Plays requests of one model over one connection. Writer of `records`."""

    def __init__(self, client: HeadraceClient, model: str, *, timeout_s: float, ended: Sent) -> None:
        self._client = client
        self._model = model
        self._timeout_s = timeout_s
        self._ended = ended
        self.records: list[Record] = []

    async def closed(self, requests: Sequence[ToSend], clients: int, until_s: float | None) -> None:
        """`clients` consumers, each of which sends the next request when its last one has ended.

        Every request once; or, with `until_s`, round and round, and none is begun after that time.
        """
        pool = iter(requests) if until_s is None else itertools.cycle(requests)
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(self._consume(pool, until_s), name=f"client {number}")

    async def open(self, requests: Sequence[ToSend], start_s: float) -> None:
        """Each request at its arrival time after `start_s`, whatever became of those before it."""
        under_way: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            for request in requests:
                if (wait_s := start_s + request.arrival_s - time.monotonic()) > 0:
                    await asyncio.sleep(wait_s)
                if len(under_way) >= MAX_IN_FLIGHT:
                    now_s = time.monotonic()
                    record = Record(index=request.index, sent_s=now_s)
                    record.fail(NOT_SENT, now_s)
                    self._keep(record)
                    continue
                task = group.create_task(self.play(request))
                under_way.add(task)
                task.add_done_callback(under_way.discard)

    async def play(self, request: ToSend) -> None:
        """One request, from sending it to its end."""
        record = Record(index=request.index, sent_s=time.monotonic())
        events = self._client.generate(
            model=self._model,
            prompt=request.prompt,
            max_tokens=request.output_tokens,
            ignore_end=True,  # exactly as many tokens as the load says
            priority=request.priority,
            timeout_s=self._timeout_s,
        )
        try:
            async with aclosing(events):
                async for event in events:
                    match event:
                        case TokenChunk():
                            record.take(event.first_index, len(event.token_ids), time.monotonic())
                        case Outcome():
                            record.finish(
                                event,
                                time.monotonic(),
                                prompt_tokens=request.prompt_tokens,
                                output_tokens=request.output_tokens,
                            )
        except HeadraceError as error:
            record.fail(error.code, time.monotonic())
        self._keep(record)

    async def _consume(self, pool: Iterator[ToSend], until_s: float | None) -> None:
        for request in pool:
            if until_s is not None and time.monotonic() >= until_s:
                return
            await self.play(request)

    def _keep(self, record: Record) -> None:
        self.records.append(record)
        self._ended(record)
