"""`headrace generate`: a prompt's answer, streamed to the terminal."""

from __future__ import annotations

import sys
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
    from headrace.client.client import HeadraceClient
    from headrace.client.request import Ask


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

    run = _as_json if as_json else _in_terminal
    completed = call_gateway(address, lambda client: run(client, model, ask, quiet))
    if not completed:
        say_error("the request was cancelled")
        raise typer.Exit(FAILED)


async def _in_terminal(client: HeadraceClient, model: str | None, ask: Ask, quiet: bool) -> bool:
    """Whether it ran to its end; it may have been cancelled elsewhere."""
    from contextlib import aclosing

    from rich.console import Console

    from headrace.cli.gateway_call import choose_model
    from headrace.cli.stream_view import StreamView
    from headrace.contract.errors import Unavailable
    from headrace.contract.values import Outcome, OutcomeKind

    kind = None
    with StreamView(sys.stdout, Console(stderr=True), quiet=quiet) as view:
        name = await choose_model(client, model)
        try:
            async with aclosing(client.generate(model=name, **ask)) as events:
                async for event in events:
                    view.show(event)
                    if isinstance(event, Outcome):
                        kind = event.kind
        except Unavailable as error:
            if error.what != "gateway" or not view.request_id:
                raise
            raise Unavailable(
                "the gateway went away",
                f"`headrace result --wait 60 {view.request_id}` gives the answer once there is one",
            ) from error
    return kind is OutcomeKind.COMPLETED


async def _as_json(client: HeadraceClient, model: str | None, ask: Ask, quiet: bool) -> bool:
    from contextlib import aclosing

    from headrace.cli.event_json import error_json, event_json
    from headrace.cli.gateway_call import choose_model
    from headrace.contract.errors import HeadraceError
    from headrace.contract.values import Outcome, OutcomeKind

    kind = None
    try:
        async with aclosing(client.generate(model=await choose_model(client, model), **ask)) as events:
            async for event in events:
                print(event_json(event), flush=True)
                if isinstance(event, Outcome):
                    kind = event.kind
    except HeadraceError as error:
        print(error_json(error), flush=True)
        raise
    return kind is OutcomeKind.COMPLETED
