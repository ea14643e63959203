"""`headrace attach`: come back to a request, or look in on one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.failures import FAILED, say_error
from headrace.cli.options import AddressOption, EventsOption, QuietOption, RequestId, TenantOption

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from headrace.client.client import HeadraceClient
    from headrace.client.unbroken import Event


def attach(
    request_id: RequestId,
    from_index: Annotated[
        int,
        typer.Option("--from", metavar="N", min=0, max=2**32 - 1, help="The first token to print; 0 is all."),
    ] = 0,
    wait_s: Annotated[
        float,
        typer.Option(
            "--wait",
            metavar="S",
            min=0.0,
            max=300.0,
            help="Seconds to wait for a request that no router has taken up yet.",
        ),
    ] = 30.0,
    tenant: TenantOption = "default",
    address: AddressOption = None,
    as_json: EventsOption = False,
    quiet: QuietOption = False,
) -> None:
    """Stream a request's answer: while it waits, while it runs, and after. Ctrl-C ends nothing but this."""
    from headrace.cli.streaming import show_stream

    async def events(client: HeadraceClient) -> AsyncGenerator[Event, None]:
        return client.attach(request_id, from_index, tenant=tenant, wait_s=wait_s)

    if not show_stream(address, events, as_json=as_json, quiet=quiet, tenant=tenant, goes_on=True):
        say_error("the request was cancelled")
        raise typer.Exit(FAILED)
