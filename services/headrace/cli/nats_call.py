"""One connection to NATS for the length of a command, and what is said where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import uvloop
from nats.aio.client import Client

from headrace.cli.failures import one_line_errors
from headrace.contract.errors import StartError
from headrace.runtime.logs import configure_logs
from headrace.runtime.nats_connection import connect
from headrace.runtime.nats_state import Link, LinkState, StateCallback
from headrace.runtime.settings import LogSettings, NatsSettings

T = TypeVar("T")


def call_nats(settings: NatsSettings, process: str, ask: Callable[[Client], Awaitable[T]]) -> T:
    """The result of `ask`. Ends the command with a line where it fails, and with 130 where it is interrupted."""
    # What happens to the connection is told by the command's own line.
    configure_logs(LogSettings(level="error"), process=process)

    async def connected() -> T:
        async with connected_at_once(settings, f"headrace {process}") as nc:
            return await ask(nc)

    with one_line_errors(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(connected())
    raise AssertionError("an error ends the command above")


@asynccontextmanager
async def connected_at_once(
    settings: NatsSettings, name: str, on_state: StateCallback = lambda state: None
) -> AsyncIterator[Client]:
    """A client; a process waits for its broker, a person is told that it is not there. Raises StartError."""
    problem = "no answer in time"

    def heard(state: LinkState) -> None:
        nonlocal problem
        on_state(state)
        if state.link is Link.CONNECTING and state.problem:
            problem = state.problem
            if len(settings.servers) > 1:
                return  # the next try may find another one
            patience.reschedule(asyncio.get_running_loop().time())

    connection = connect(settings, name, on_state=heard)
    try:
        async with asyncio.timeout(settings.connect_timeout_s) as patience:
            nc = await connection.__aenter__()
    except TimeoutError:
        raise StartError(
            f"NATS at {settings.shown} is not reachable: {problem}",
            "Start a mesh with `headrace up`, or name its NATS with --nats-url",
        ) from None
    try:
        yield nc
    finally:
        await connection.__aexit__(None, None, None)
