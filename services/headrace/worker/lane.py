"""One engine thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Protocol, Self

from headrace.contract.errors import EngineFailed
from headrace.worker.crossing import Crossing


class LaneJob(Protocol):
    """What the lane's thread runs: `Decode`, `Embedding` and `Translation` are some."""

    def run(self, emit: Callable[[Any], None]) -> EngineFailed | None:
        """Blocks until all is made. Gives what is made to `emit`, and returns what the engine failed with."""
        ...


class LaneWork(Protocol):
    """What a lane runs: a batch on the event loop's side."""

    @property
    def job(self) -> LaneJob: ...

    def take_step(self, made: Any) -> None:
        """On the event loop: what its job gave to `emit`."""
        ...


@dataclass(frozen=True, slots=True)
class _Done:
    failure: EngineFailed | None


class Lane:
    """Runs one batch at a time in a thread of its own. An async context manager; leaving it waits for the thread.

    `work` is written on the event loop: by `start`, and when the thread has said that it is done.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.work: LaneWork | None = None
        """What runs now; None = the lane is free."""
        self._done: Callable[[int, EngineFailed | None], None] | None = None
        # At most one batch, as `start` asserts, and at the end the None that stops the thread.
        self._inbox: SimpleQueue[LaneJob | None] = SimpleQueue()
        self._crossing: Crossing[Any]
        self._thread: threading.Thread

    def __repr__(self) -> str:
        return f"<Lane {self.index}: {self.work or 'free'}>"

    @property
    def wakeups(self) -> int:
        """How often this lane has woken the event loop."""
        return self._crossing.wakeups

    def start(self, work: LaneWork, done: Callable[[int, EngineFailed | None], None]) -> None:
        """Runs `work`; then `done(index, what the engine failed with)` is called on the event loop, the lane free."""
        assert self.work is None, "a lane runs one batch at a time"
        self.work, self._done = work, done
        self._inbox.put(work.job)

    async def __aenter__(self) -> Self:
        self._crossing = Crossing(asyncio.get_running_loop(), self._receive)
        self._thread = threading.Thread(target=self._run, name=f"lane-{self.index}")
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        # Without a limit: a process that ends while the engine computes is aborted. A second signal ends it at once.
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (job := self._inbox.get()) is not None:
            failure = job.run(self._crossing.send)
            self._crossing.send(_Done(failure))

    def _receive(self, item: Any) -> None:
        assert self.work is not None, "steps come from a batch that runs"
        if not isinstance(item, _Done):
            self.work.take_step(item)
            return
        done, self.work, self._done = self._done, None, None
        assert done is not None, "work and done are set together"
        done(self.index, item.failure)
