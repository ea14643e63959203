"""Clients that ask without a pause while the mesh changes, and how long each of them waited for every token."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from headrace.bench.driver import ToSend
from headrace.client.client import HeadraceClient
from headrace.contract.errors import HeadraceError
from headrace.contract.values import Accepted, Outcome, OutcomeKind, TokenChunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Of one client, for its first token or for the next one."""

    stage: str
    """What was done to the mesh when it ended."""
    seconds: float
    tokens: int
    """That the request had before; 0 = it was for the first."""
    model: str
    """The version that was to answer when the request was accepted."""
    request_id: str

    def __str__(self) -> str:
        token = "its first token" if not self.tokens else f"token {self.tokens + 1}"
        return f"{self.seconds:.2f} s, for {token} of {self.model}"


@dataclass(slots=True)
class Load:
    """Clients that ask one request after another. Writer: its own tasks, of `stage` the part that measures."""

    client: HeadraceClient
    alias: str
    pool: Iterator[ToSend]
    stage: str = ""
    answered: Counter[str] = field(default_factory=Counter)
    """By the version that answered."""
    failed: list[str] = field(default_factory=list)
    moved: int = 0
    """Answers that went on at another version than they began at."""
    waits: list[Wait] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def longest(self, stages: Iterable[str]) -> Wait:
        """Of the waits that ended in these."""
        chosen = frozenset(stages)
        return max((wait for wait in self.waits if wait.stage in chosen), key=lambda wait: wait.seconds)

    async def answers(self, model: str, count: int, limit_s: float) -> None:
        """Returns when that version has answered so many more."""
        wanted = self.answered[model] + count
        async with asyncio.timeout(limit_s):
            while self.answered[model] < wanted:
                self.changed.clear()
                await self.changed.wait()

    async def ask_on(self) -> None:
        for request in self.pool:
            try:
                await self._ask(request)
            except HeadraceError as error:
                self.failed.append(str(error))
            self.changed.set()

    async def _ask(self, request: ToSend) -> None:
        at_s, tokens, model, request_id = time.monotonic(), 0, "", ""
        events = self.client.generate(
            model=self.alias, prompt=request.prompt, max_tokens=request.output_tokens, ignore_end=True
        )
        async with aclosing(events):
            async for event in events:
                now_s = time.monotonic()
                if isinstance(event, Accepted):
                    model, request_id = event.model, event.request_id
                elif isinstance(event, TokenChunk):
                    self.waits.append(
                        Wait(
                            stage=self.stage,
                            seconds=now_s - at_s,
                            tokens=tokens,
                            model=model,
                            request_id=request_id,
                        )
                    )
                    at_s = now_s
                    assert event.first_index == tokens, "no gap and no repeat"
                    tokens += len(event.token_ids)
                elif isinstance(event, Outcome):
                    whole = event.kind is OutcomeKind.COMPLETED and tokens == request.output_tokens
                    if not whole:
                        self.failed.append(f"{event.kind.value} after {tokens} tokens")
                    self.answered[event.model] += 1
                    self.moved += bool(event.earlier_models)


@asynccontextmanager
async def loading(
    client: HeadraceClient, alias: str, work: Sequence[ToSend], clients: int
) -> AsyncIterator[Load]:
    """Keeps so many clients asking while the block lasts; what they were at ends."""
    stop = asyncio.Event()
    pool = itertools.takewhile(lambda _: not stop.is_set(), itertools.cycle(work))
    load = Load(client, alias, pool)
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(load.ask_on())
        try:
            yield load
        finally:
            stop.set()
