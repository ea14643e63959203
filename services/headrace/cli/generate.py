"""`headrace generate`: a prompt's answer, streamed to the terminal."""

from __future__ import annotations

import sys
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.ask_options import (
    MaxTokensOption,
    ModelOption,
    PenaltyOption,
    PriorityOption,
    PromptArgument,
    RawOption,
    StopOption,
    SystemOption,
    TemperatureOption,
    TimeoutOption,
    TopKOption,
    TopPOption,
    build_ask,
)
from headrace.cli.failures import FAILED, say_error
from headrace.cli.options import AddressOption, TenantOption

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.client.client import HeadraceClient
    from headrace.client.request import Ask
    from headrace.client.unbroken import Event


def generate(
    prompt: PromptArgument,
    model: ModelOption = None,
    system: SystemOption = None,
    raw: RawOption = False,
    priority: PriorityOption = "normal",
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    repetition_penalty: PenaltyOption = None,
    stop: StopOption = None,
    timeout: TimeoutOption = None,
    tenant: TenantOption = "default",
    address: AddressOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per event and line.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the answer alone, without figures at the end.")
    ] = False,
) -> None:
    """Ask a model, and see its answer as it is made. Ctrl-C cancels the request."""
    ask = build_ask(
        prompt,
        raw=raw,
        system=system,
        priority=priority,
        tenant=tenant,
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        stop=stop,
        timeout_s=timeout,
    )
    from headrace.cli.gateway_call import call_gateway

    run = _as_json if as_json else partial(_in_terminal, quiet=quiet)
    completed = call_gateway(address, lambda client: run(client, model, ask))
    if not completed:
        say_error("the request was cancelled")
        raise typer.Exit(FAILED)


async def _in_terminal(client: HeadraceClient, model: str | None, ask: Ask, *, quiet: bool) -> bool:
    from rich.console import Console

    from headrace.cli.stream_view import StreamView

    with StreamView(sys.stdout, Console(stderr=True), quiet=quiet) as view:
        return await _stream(client, model, ask, view.show)


async def _as_json(client: HeadraceClient, model: str | None, ask: Ask) -> bool:
    from headrace.cli.event_json import error_json, event_json
    from headrace.contract.errors import HeadraceError

    try:
        return await _stream(client, model, ask, lambda event: print(event_json(event), flush=True))
    except HeadraceError as error:
        print(error_json(error), flush=True)
        raise


async def _stream(client: HeadraceClient, model: str | None, ask: Ask, show: Callable[[Event], None]) -> bool:
    """Whether the request ran to its end; somebody else may have cancelled it."""
    from headrace.cli.gateway_call import choose_model
    from headrace.contract.errors import Unavailable
    from headrace.contract.values import Accepted, Outcome, OutcomeKind

    kind, request_id = None, ""
    try:
        async with aclosing(client.generate(model=await choose_model(client, model), **ask)) as events:
            async for event in events:
                show(event)
                if isinstance(event, Accepted):
                    request_id = event.request_id
                elif isinstance(event, Outcome):
                    kind = event.kind
    except Unavailable as error:
        if error.what != "gateway" or not request_id:
            raise
        raise Unavailable(
            "the gateway went away",
            f"`headrace result --wait 60 {request_id}` gives the answer once there is one",
        ) from error
    return kind is OutcomeKind.COMPLETED
