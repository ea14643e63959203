"""What a client hears of one request: its estimates of the wait, its first token, its end."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from headrace.bench.driver import ToSend
from headrace.client.client import HeadraceClient
from headrace.contract.values import Accepted, Outcome, OutcomeKind, QueuePosition, TokenChunk, Usage

LIMIT_S = 240.0
"""For one request, behind all others of a part."""


@dataclass(slots=True, kw_only=True)
class Heard:
    """Times are those of the monotonic clock. Writer: `ask`."""

    request: ToSend
    sent_s: float
    request_id: str = ""
    estimate_s: float | None = None
    """The first wait that the mesh estimated, above 0."""
    estimated_at_s: float = 0.0
    first_s: float = 0.0
    ended_s: float = 0.0
    usage: Usage = field(default_factory=Usage)

    @property
    def first_token_s(self) -> float:
        return self.first_s - self.sent_s

    @property
    def total_s(self) -> float:
        return self.ended_s - self.sent_s


async def ask(
    client: HeadraceClient,
    request: ToSend,
    model: str,
    *,
    tenant: str = "default",
    first: Callable[[], None] = lambda: None,
) -> Heard:
    """Sends it and hears it out; `first` is called with its first token. Fails where it is not answered whole."""
    heard = Heard(request=request, sent_s=time.monotonic())
    events = client.generate(
        model=model,
        prompt=request.prompt,
        max_tokens=request.output_tokens,
        ignore_end=True,
        priority=request.priority,
        tenant=tenant,
    )
    tokens = 0
    async with asyncio.timeout(LIMIT_S), aclosing(events):
        async for event in events:
            match event:
                case Accepted():
                    heard.request_id = event.request_id
                    _estimated(heard, event.position)
                case QueuePosition():
                    _estimated(heard, event)
                case TokenChunk():
                    tokens += len(event.token_ids)
                    if not heard.first_s:
                        heard.first_s = time.monotonic()
                        first()
                case Outcome():
                    heard.ended_s, heard.usage = time.monotonic(), event.usage
                    assert event.kind is OutcomeKind.COMPLETED, f"it ended as {event.kind.value}"
    assert tokens == request.output_tokens, "as many tokens as were asked for"
    return heard


async def ask_all(client: HeadraceClient, requests: Sequence[ToSend], model: str) -> list[Heard]:
    """All at once."""
    return list(await asyncio.gather(*(ask(client, request, model) for request in requests)))


async def ask_round(
    client: HeadraceClient, requests: Iterable[ToSend], model: str, clients: int, heard: list[Heard]
) -> None:
    """`clients` consumers take the next request each as their last one ends; `heard` gets those that have ended."""
    pool = iter(requests)

    async def consume() -> None:
        for request in pool:
            heard.append(await ask(client, request, model))

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(consume())


@asynccontextmanager
async def saturating(
    client: HeadraceClient, requests: Sequence[ToSend], model: str, clients: int
) -> AsyncIterator[list[Heard]]:
    """Keeps `clients` requests under way or waiting while the block lasts; begins when the first tokens have come.

    Gives those that have ended.
    """
    begun, heard = asyncio.Event(), list[Heard]()
    pool = itertools.cycle(requests)

    async def consume() -> None:
        for request in pool:
            heard.append(await ask(client, request, model, first=begun.set))

    tasks = [asyncio.create_task(consume()) for _ in range(clients)]
    try:
        async with asyncio.timeout(LIMIT_S):
            await begun.wait()
        yield heard
    finally:
        failed = [task for task in tasks if task.done() and not task.cancelled()]
        for task in tasks:
            task.cancel()  # which cancels its request
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in failed:
        task.result()


def makespan_s(heard: Sequence[Heard]) -> float:
    """From the first that was sent to the last that ended."""
    return max(one.ended_s for one in heard) - min(one.sent_s for one in heard)


def _estimated(heard: Heard, position: QueuePosition) -> None:
    if heard.estimate_s is None and position.estimated_wait_s:
        heard.estimate_s, heard.estimated_at_s = position.estimated_wait_s, time.monotonic()
