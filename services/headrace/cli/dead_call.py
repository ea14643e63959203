"""A command on dead letters: one connection to NATS for its length."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import uvloop

from headrace.cli.failures import one_line_errors
from headrace.cli.nats_call import connected_at_once
from headrace.dead.letters import DeadLetters
from headrace.runtime.logs import configure_logs
from headrace.runtime.settings import LogSettings, Settings

T = TypeVar("T")


def call_letters(settings: Settings, ask: Callable[[DeadLetters], Awaitable[T]]) -> T:
    """The result of `ask`. Ends the command with a line where it fails, and with 130 where it is interrupted."""
    # What happens to the connection is told by the command's own line.
    configure_logs(LogSettings(level="error"), process="dead")

    async def connected() -> T:
        async with connected_at_once(settings.nats, "headrace dead") as nc:
            return await ask(await DeadLetters.open(nc))

    with one_line_errors(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(connected())
    raise AssertionError("an error ends the command above")
