"""A request's events on their way to the terminal, or to a program as lines of JSON."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from rich.console import Console

from headrace.cli.event_json import error_json, event_json
from headrace.cli.failures import say_error
from headrace.cli.gateway_call import call_gateway
from headrace.cli.stream_view import StreamView
from headrace.client.client import HeadraceClient
from headrace.client.unbroken import Event
from headrace.contract.errors import HeadraceError, Unavailable
from headrace.contract.inference_wire import DEFAULT_TENANT
from headrace.contract.values import Accepted, Outcome, OutcomeKind, TokenChunk


def show_stream(
    address: str | None,
    events: Callable[[HeadraceClient], Awaitable[AsyncGenerator[Event, None]]],
    *,
    as_json: bool,
    quiet: bool,
    tenant: str,
    goes_on: bool,
) -> bool:
    """Shows the events of a request to its end. False where it was cancelled. Ends the command where it fails.

    `goes_on`: the request does when the command is interrupted, and the way back to it is said.
    """

    async def shown(client: HeadraceClient) -> bool:
        progress = _Progress(tenant)
        try:
            if as_json:
                return await _as_json(await events(client), progress)
            return await _in_terminal(await events(client), progress, quiet=quiet)
        except asyncio.CancelledError:
            if goes_on and progress.request_id:
                say_error(f"the request goes on; `{progress.way_back}` returns to it")
            elif progress.request_id:
                say_error(f"the request is cancelled; {progress.what_is_left}")
            raise
        except Unavailable as error:
            if error.what != "gateway" or not progress.request_id:
                raise
            problem = f"`{progress.way_back}` goes on from here, once one is back"
            raise Unavailable("the gateway went away", problem) from error
        except HeadraceError as error:
            if progress.request_id:
                error.add_note(f"`headrace trace {progress.request_id}` says why; {progress.what_is_left}")
            raise

    return call_gateway(address, shown)


class _Progress:
    """How far a stream has come."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self._next_index = 0
        self.request_id = ""

    @property
    def way_back(self) -> str:
        """The command that goes on from here."""
        return attach_command(self.request_id, self._tenant, self._next_index)

    @property
    def what_is_left(self) -> str:
        """Of a request that has ended."""
        return f"`{_of_request('result', self.request_id, self._tenant)}` has what was made"

    def note(self, event: Event) -> None:
        match event:
            case Accepted():
                self.request_id = event.request_id
            case TokenChunk():
                self._next_index = event.next_index


def attach_command(request_id: str, tenant: str, from_index: int = 0) -> str:
    """The command that gives a request's tokens from an index on."""
    start = f" --from {from_index}" if from_index else ""
    return _of_request("attach", f"{request_id}{start}", tenant)


def _of_request(command: str, arguments: str, tenant: str) -> str:
    whose = f" --tenant {tenant}" if tenant != DEFAULT_TENANT else ""
    return f"headrace {command} {arguments}{whose}"


async def _in_terminal(events: AsyncGenerator[Event, None], progress: _Progress, *, quiet: bool) -> bool:
    with StreamView(sys.stdout, Console(stderr=True), quiet=quiet) as view:
        return await _show(events, progress, view.show)


async def _as_json(events: AsyncGenerator[Event, None], progress: _Progress) -> bool:
    try:
        return await _show(events, progress, lambda event: print(event_json(event), flush=True))
    except HeadraceError as error:
        print(error_json(error), flush=True)
        raise


async def _show(
    events: AsyncGenerator[Event, None], progress: _Progress, show: Callable[[Event], None]
) -> bool:
    kind = None
    async with aclosing(events):
        async for event in events:
            progress.note(event)
            show(event)
            if isinstance(event, Outcome):
                kind = event.kind
    return kind is OutcomeKind.COMPLETED
