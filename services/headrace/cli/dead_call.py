"""One connection to NATS for the length of a command on dead letters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from nats.aio.client import Client

from headrace.cli.nats_call import call_nats
from headrace.dead.letters import DeadLetters
from headrace.runtime.settings import Settings

T = TypeVar("T")


def call_letters(settings: Settings, ask: Callable[[DeadLetters], Awaitable[T]]) -> T:
    """The result of `ask`. Ends the command with a line where it fails, and with 130 where it is interrupted."""

    async def of_letters(nc: Client) -> T:
        return await ask(await DeadLetters.open(nc))

    return call_nats(settings.nats, "dead", of_letters)
