"""`headrace log-level`: one process of the mesh logs more, or less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from headrace.cli.options import AddressOption

if TYPE_CHECKING:
    from headrace.client.admin import AdminClient
    from headrace.contract.admin import Member


def log_level(
    member: Annotated[
        str, typer.Argument(metavar="ID", help="As `headrace members` lists it.", show_default=False)
    ],
    level: Annotated[
        Literal["debug", "info", "warning", "error", "as-set"],
        typer.Argument(help="The least weight of a line; as-set: what its settings say.", show_default=False),
    ],
    kind: Annotated[
        Literal["router", "gateway", "worker"] | None,
        typer.Option("--kind", help="Needed where two members have that id.", show_default=False),
    ] = None,
    address: AddressOption = None,
) -> None:
    """Have a router, gateway or worker log more or less, from now until it ends or is told otherwise.

    Its log says so. Lines never hold prompts or outputs, at any level.
    """
    from headrace.cli.gateway_call import call_admin
    from headrace.contract.admin import MemberKind
    from headrace.contract.log_level import log_level_named

    async def act(admin: AdminClient) -> Member:
        return await admin.set_log_level(member, log_level_named(level), MemberKind(kind) if kind else None)

    told = call_admin(address, act)
    typer.echo(f"{told.title} logs {'as its settings say' if level == 'as-set' else f'from {level} up'}")
