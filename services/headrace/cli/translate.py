"""`headrace translate`: a text in another language, streamed to the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.ask_options import (
    MaxTokensOption,
    ModelOption,
    PriorityOption,
    TimeoutOption,
    read_stdin,
)
from headrace.cli.failures import FAILED, bad_input, say_error
from headrace.cli.options import AddressOption, EventsOption, QuietOption, TenantOption

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from headrace.client.client import HeadraceClient
    from headrace.client.request import TranslationAsk
    from headrace.client.unbroken import Event


def translate(
    text: Annotated[
        str,
        typer.Argument(metavar="TEXT", help="What to translate; - reads standard input.", show_default=False),
    ],
    model: ModelOption = None,
    source: Annotated[
        str,
        typer.Option("--from", metavar="LANGUAGE", help="The text's language, as the model names it."),
    ] = "",
    target: Annotated[
        str,
        typer.Option("--to", metavar="LANGUAGE", help="The language to translate into."),
    ] = "",
    beams: Annotated[
        int,
        typer.Option(
            "--beams",
            metavar="N",
            min=1,
            help="Hypotheses that are followed at once; from 2 on the best comes as a whole.",
        ),
    ] = 1,
    priority: PriorityOption = "normal",
    max_tokens: MaxTokensOption = None,
    timeout: TimeoutOption = None,
    tenant: TenantOption = "default",
    address: AddressOption = None,
    as_json: EventsOption = False,
    quiet: QuietOption = False,
) -> None:
    """Translate a text, and see it as it is made. Ctrl-C cancels the request."""
    if max_tokens == 0:  # on the wire it stands for the default
        raise bad_input("--max-tokens must be at least 1")
    wanted = read_stdin() if text == "-" else text
    ask: TranslationAsk = {
        "priority": priority,
        "tenant": tenant,
        "source_language": source,
        "target_language": target,
        "beam_size": beams,
    }
    if max_tokens is not None:
        ask["max_tokens"] = max_tokens
    if timeout is not None:
        ask["timeout_s"] = timeout
    from headrace.cli.gateway_call import choose_model
    from headrace.cli.streaming import show_stream
    from headrace.contract.values import Task

    async def events(client: HeadraceClient) -> AsyncGenerator[Event, None]:
        chosen = await choose_model(client, model, Task.TRANSLATE)
        return client.translate(model=chosen, text=wanted, **ask)

    if not show_stream(address, events, as_json=as_json, quiet=quiet, tenant=tenant, goes_on=False):
        say_error("the request was cancelled")
        raise typer.Exit(FAILED)
