"""One connection to NATS for the length of a command, and what is said where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.client import Client

from headrace.contract.errors import StartError
from headrace.runtime.nats_connection import connect
from headrace.runtime.nats_state import Link, LinkState, StateCallback
from headrace.runtime.settings import NatsSettings


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
