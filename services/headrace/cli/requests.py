"""`headrace submit`, `result`, `cancel`, `models`: what else can be asked of a mesh, one call each."""

from __future__ import annotations

import dataclasses
import json
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
from headrace.cli.options import AddressOption, JsonOption, NewRequestId, RequestId, TenantOption

if TYPE_CHECKING:
    from headrace.client.client import HeadraceClient
    from headrace.contract.values import Accepted, Outcome


def submit(
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
    as_json: JsonOption = False,
) -> None:
    """Queue a request and print its id; `headrace attach` streams its answer, `headrace result` fetches it."""
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
    from headrace.cli.event_json import event_json
    from headrace.cli.gateway_call import call_gateway, choose_model
    from headrace.cli.streaming import attach_command

    async def send(client: HeadraceClient) -> Accepted:
        return await client.submit(model=await choose_model(client, model), **ask)

    accepted = call_gateway(address, send)
    if as_json:
        typer.echo(event_json(accepted))
        return
    typer.echo(accepted.request_id)
    typer.secho(f"{attach_command(accepted.request_id, tenant)}   streams its answer", dim=True, err=True)


def result(
    request_id: RequestId,
    wait_s: Annotated[
        float,
        typer.Option(
            "--wait", metavar="S", min=0.0, help="Seconds to wait for an answer that is not there yet."
        ),
    ] = 0.0,
    tenant: TenantOption = "default",
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the answer to a request; it is kept for a day."""
    from rich.console import Console

    from headrace.cli.event_json import embeddings_of, outcome_json
    from headrace.cli.gateway_call import call_gateway
    from headrace.cli.stream_view import StreamView, harmless
    from headrace.contract.errors import NotFound
    from headrace.contract.values import OutcomeKind

    async def fetch(client: HeadraceClient) -> Outcome:
        try:
            return await client.result(request_id, tenant=tenant, wait_s=wait_s)
        except NotFound as error:
            error.add_note(
                "where it still waits or runs: --wait S waits for it, `headrace attach` streams it"
            )
            raise

    outcome = call_gateway(address, fetch)
    if as_json:
        typer.echo(outcome_json(outcome))
    else:
        for vector in embeddings_of(outcome):
            typer.echo(json.dumps(vector))
        if not outcome.vectors:
            typer.echo(harmless(outcome.text, sys.stdout))
        notes = Console(stderr=True)
        figures = StreamView(sys.stdout, notes).figures(outcome)
        notes.print(figures, style="dim", soft_wrap=True, markup=False, highlight=False)
    if (
        outcome.kind is not OutcomeKind.COMPLETED or outcome.failure is not None
    ):  # the latter: without its text
        reason = outcome.failure.message if outcome.failure else "no reason was given"
        say_error(f"the request was {outcome.kind.value}: {reason}")
        raise typer.Exit(FAILED)


def cancel(request_id: RequestId, tenant: TenantOption = "default", address: AddressOption = None) -> None:
    """End a request, waiting or running. Exit code 1 where it has ended otherwise before."""
    from headrace.cli.gateway_call import call_gateway
    from headrace.contract.values import OutcomeKind

    kind = call_gateway(address, lambda client: client.cancel(request_id, tenant=tenant))
    if kind is not OutcomeKind.CANCELLED:
        say_error(f"too late: it is {kind.value}")
        raise typer.Exit(FAILED)
    typer.echo(kind.value)


def models(address: AddressOption = None, as_json: JsonOption = False) -> None:
    """List the models that the mesh serves."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from headrace.cli.alias_view import targets
    from headrace.cli.gateway_call import call_gateway

    found = call_gateway(address, lambda client: client.models())
    if as_json:
        documents = [{**dataclasses.asdict(model), "task": model.task.value} for model in found]
        typer.echo(json.dumps(documents, indent=2))
        return
    table = Table("model", "task", "version", "context", "lanes", box=box.SIMPLE, pad_edge=False)
    for model in found:
        version = model.version if model.alias is None else targets(model.alias)
        table.add_row(model.name, model.task.value, version, str(model.context_length), str(model.lanes))
    Console().print(table)
