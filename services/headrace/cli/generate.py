"""`headrace generate`: a prompt's answer, streamed to the terminal."""

from __future__ import annotations

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
from headrace.cli.options import AddressOption, EventsOption, NewRequestId, QuietOption, TenantOption

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from headrace.client.client import HeadraceClient
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
    request_id: NewRequestId = None,
    tenant: TenantOption = "default",
    address: AddressOption = None,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="The request goes on when this ends before it; `headrace attach` returns to it."
        ),
    ] = False,
    as_json: EventsOption = False,
    quiet: QuietOption = False,
) -> None:
    """Ask a model, and see its answer as it is made. Ctrl-C cancels the request, unless it is to be kept."""
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
        request_id=request_id,
    )
    from headrace.cli.gateway_call import choose_model
    from headrace.cli.streaming import show_stream

    async def events(client: HeadraceClient) -> AsyncGenerator[Event, None]:
        return client.generate(model=await choose_model(client, model), keep=keep, **ask)

    if not show_stream(address, events, as_json=as_json, quiet=quiet, tenant=tenant, goes_on=keep):
        say_error("the request was cancelled")
        raise typer.Exit(FAILED)
