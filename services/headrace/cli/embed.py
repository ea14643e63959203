"""`headrace embed`: vectors of texts."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.ask_options import ModelOption, PriorityOption, TimeoutOption, read_stdin
from headrace.cli.failures import bad_input
from headrace.cli.options import AddressOption, QuietOption, TenantOption

if TYPE_CHECKING:
    from headrace.client.client import HeadraceClient
    from headrace.contract.values import Outcome

TEXTS_AT_ONCE = 128
"""Of one request: enough to be sorted by length, and well below the limits as they come."""


def embed(
    texts: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXT...",
            help="What to embed; - reads standard input, a text a line.",
            show_default=False,
        ),
    ],
    model: ModelOption = None,
    priority: PriorityOption = "normal",
    timeout: TimeoutOption = None,
    tenant: TenantOption = "default",
    address: AddressOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Each request's outcome as a line of JSON, not only the vectors.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Print the vectors of texts, as a JSON array a line. Ctrl-C cancels the request."""
    wanted = [line for line in read_stdin().splitlines() if line] if texts == ["-"] else texts
    if not wanted:
        raise bad_input("there is no text on standard input")
    from headrace.cli.event_json import embeddings_of, outcome_json
    from headrace.cli.gateway_call import call_gateway, choose_model
    from headrace.contract.values import Task

    def show(outcome: Outcome) -> None:
        if as_json:
            print(outcome_json(outcome), flush=True)
            return
        for vector in embeddings_of(outcome):
            print(json.dumps(vector), flush=True)

    async def ask(client: HeadraceClient) -> tuple[int, float]:
        chosen = await choose_model(client, model, Task.EMBED)
        tokens, took_s = 0, 0.0
        for at in range(0, len(wanted), TEXTS_AT_ONCE):
            outcome = await client.embed(
                wanted[at : at + TEXTS_AT_ONCE],
                model=chosen,
                priority=priority,
                tenant=tenant,
                timeout_s=timeout,
            )
            show(outcome)
            tokens += outcome.usage.prompt_tokens
            took_s += outcome.usage.total_s
        return tokens, took_s

    tokens, took_s = call_gateway(address, ask)
    if not quiet:
        figures = f"{len(wanted)} texts · {tokens} tokens · {took_s * 1000:.0f} ms"
        typer.secho(figures, dim=True, err=True)
    sys.stdout.flush()
