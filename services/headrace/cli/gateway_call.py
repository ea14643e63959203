"""A connection to a gateway for the length of a command, and what is said where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import uvloop

from headrace.cli.addresses import dialled
from headrace.cli.failures import one_line_errors
from headrace.client.admin import AdminClient
from headrace.client.client import HeadraceClient
from headrace.client.gateways import parse_addresses
from headrace.contract.errors import HeadraceError, InvalidRequest, Unavailable
from headrace.contract.values import Task
from headrace.runtime.settings import Settings, load_settings

T = TypeVar("T")
C = TypeVar("C")


class NoGateway(HeadraceError):
    """Nobody answers at the address."""

    code = "UNAVAILABLE"

    def __init__(self, address: str) -> None:
        super().__init__(
            f"no gateway answers at {address}. Start one with `headrace up`, or name another with --address"
        )
        self.address = address


def call_gateway(address: str | None, ask: Callable[[HeadraceClient], Awaitable[T]]) -> T:
    """The result of `ask`. Ends the command with a line where it fails, and with 130 where it is interrupted.

    An interruption is a cancellation in `ask`, which gets to cancel what it asked for.
    """
    return _call(address, lambda where, own: HeadraceClient(where, keepalive=own.grpc.client_keepalive), ask)


def call_admin(address: str | None, ask: Callable[[AdminClient], Awaitable[T]]) -> T:
    """The same for what operators ask, with the token of the settings."""

    def open_client(where: str, own: Settings) -> AdminClient:
        token = own.gateway.admin_token
        return AdminClient(
            where, token=token.get_secret_value() if token else "", keepalive=own.grpc.client_keepalive
        )

    return _call(address, open_client, ask)


def _call(
    address: str | None,
    open_client: Callable[[str, Settings], AbstractAsyncContextManager[C]],
    ask: Callable[[C], Awaitable[T]],
) -> T:
    async def connected() -> T:
        settings = load_settings()
        where = (
            ",".join(_checked(address))
            if address is not None
            else dialled(settings.gateway.host, settings.gateway.port)
        )
        try:
            async with open_client(where, settings) as client:
                return await ask(client)
        except Unavailable as error:
            if error.what == "gateway":
                raise NoGateway(where) from error
            raise

    with one_line_errors(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(connected())
    raise AssertionError("an error ends the command above")


def _checked(address: str) -> tuple[str, ...]:
    try:
        return parse_addresses(address)
    except InvalidRequest as error:
        raise InvalidRequest("--address", error.problem) from None


async def choose_model(client: HeadraceClient, named: str | None, task: Task = Task.GENERATE) -> str:
    """The model that was named, else the only one for a task, aliases aside. Raises InvalidRequest where that is not
    clear.
    """
    if named is not None:
        return named
    found = [model for model in await client.models() if model.task is task]
    there = [model.name for model in found]
    itself = [model.name for model in found if model.alias is None]
    if len(itself) == 1:
        return itself[0]
    if not there:
        known = "smollm2" if task is Task.GENERATE else "minilm" if task is Task.EMBED else "NAME"
        problem = f"the mesh serves none yet to {task.value}; get one with `headrace model pull {known}`"
        raise Unavailable("model", problem)
    raise InvalidRequest("model", f"the mesh serves several; choose with --model: {', '.join(there)}")
