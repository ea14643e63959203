"""How a process begins and ends: signals become one event, and an expected error at start becomes one line.

    def main() -> None:
        raise SystemExit(run_process(serve(settings)))

    async def serve(settings) -> None:
        async with Shutdown() as shutdown, GrpcServer(…) as server:
            await shutdown.requested()      # SIGTERM, SIGINT or shutdown.request(); leaving the block drains

The first signal asks for a drain; the second ends the process at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog
import uvloop

from headrace.runtime.error_groups import expected_errors

log = structlog.get_logger(__name__)

T = TypeVar("T")

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def exit_at_once(signum: int) -> None:
    """Ends the process without running anything else: an engine that is half shut down could hang or abort."""
    os._exit(128 + signum)


class Shutdown:
    """One per process. Turns the first SIGTERM or SIGINT, or a call of `request`, into an event that never goes back.

    `second` is called with the number of each later signal; a process with children kills them there before it exits.
    Writers: `_event` and `reason` by `request`.
    """

    def __init__(
        self, *, signals: tuple[signal.Signals, ...] = SIGNALS, second: Callable[[int], None] = exit_at_once
    ) -> None:
        """`signals=()` listens to none: for tests, and for loops outside the main thread."""
        self._signals = signals
        self._second = second
        self._event = asyncio.Event()
        self.reason = ""

    @property
    def draining(self) -> bool:
        """Whether the end has been asked for."""
        return self._event.is_set()

    async def requested(self) -> None:
        """Returns when the end has been asked for."""
        await self._event.wait()

    async def unless_requested(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of `work`, or None where the end was asked for before it was there; then it is cancelled."""
        working = asyncio.ensure_future(work)
        asked = asyncio.ensure_future(self.requested())
        try:
            await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            asked.cancel()
            working.cancel()
            await asyncio.wait({working, asked})

    def request(self, reason: str) -> None:
        """Asks for the end. The first reason stays."""
        if not self._event.is_set():
            self.reason = reason
            log.info("draining", reason=reason)
            self._event.set()

    def signalled(self, signum: int) -> None:
        """What a signal does: the first asks for the end, a later one insists."""
        if not self.draining:
            self.request(signal.Signals(signum).name)
            return
        log.warning("ending at once", reason=f"{signal.Signals(signum).name} while draining")
        self._second(signum)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in self._signals:
            loop.add_signal_handler(number, self.signalled, int(number))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in self._signals:
            loop.remove_signal_handler(number)

    def __repr__(self) -> str:
        return f"<Shutdown {'draining: ' + self.reason if self.draining else 'not requested'}>"


def run_process(main: Coroutine[Any, Any, int | None]) -> int:
    """Runs a process's main coroutine on uvloop and gives its exit code.

    Errors of our tree are told in a line each on stderr, without a traceback, and give 1. Any other exception passes.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main) or 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        expected = expected_errors(error)
        if not expected:
            raise
        for line in dict.fromkeys(str(one) for one in expected):
            print(f"headrace: {line}", file=sys.stderr)
        return 1
