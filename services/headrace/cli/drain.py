"""`headrace drain`: one process of the mesh ends, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from headrace.cli.failures import FAILED, say_error
from headrace.cli.options import AddressOption

if TYPE_CHECKING:
    from headrace.client.admin import AdminClient
    from headrace.contract.admin import DrainBegun, Member

_LOOK_S = 0.5
"""Between looks at who is there: nothing tells when a process has gone."""

_LOOKS_WITHOUT = 3
"""So often in a row it has to be missing: one that is busy may be late with its answer once."""

_OVER_GRACE_S = 15.0
"""Beyond a member's own grace: to hand back what it holds, unload its models, and be missed."""


def drain(
    member: Annotated[
        str, typer.Argument(metavar="ID", help="As `headrace members` lists it.", show_default=False)
    ],
    kind: Annotated[
        Literal["router", "gateway", "worker"] | None,
        typer.Option("--kind", help="Needed where two members have that id.", show_default=False),
    ] = None,
    wait_s: Annotated[
        float | None,
        typer.Option(
            "--wait",
            metavar="S",
            min=0.0,
            help="Seconds to wait until it is gone; 0 returns once the drain has begun. Default: as long as its"
            f" settings let it take, and {_OVER_GRACE_S:g} s.",
            show_default=False,
        ),
    ] = None,
    address: AddressOption = None,
) -> None:
    """Have a router, gateway or worker take nothing new, finish or hand on what it has, and end with exit code 0.

    The same as SIGTERM to it. What a supervisor keeps, `headrace up` or systemd, is started anew: draining one after
    another is a rolling restart. Ends with 0 once it is gone, and with 1 where it is still there after the wait.
    """
    from headrace.cli.gateway_call import call_admin
    from headrace.contract.admin import MemberKind

    wanted = MemberKind(kind) if kind else None

    async def act(admin: AdminClient) -> bool:
        begun = await admin.drain(member, wanted)
        title, limit_s = begun.member.title, begun.grace_s + _OVER_GRACE_S if wait_s is None else wait_s
        _say(f"{title} drains: {_left(begun.member)}, at most {begun.grace_s:g} s")
        if limit_s == 0:
            return True
        try:
            async with asyncio.timeout(limit_s):
                typer.echo(await until_gone(admin, begun, _say))
        except TimeoutError:
            say_error(f"{title} is still there after {limit_s:g} s; its drain goes on")
            return False
        return True

    if not call_admin(address, act):
        raise typer.Exit(FAILED)


async def until_gone(admin: AdminClient, begun: DrainBegun, say: Callable[[str], None]) -> str:
    """Waits until the member that drains is not there any more, and says what became of it. `say` hears of progress."""
    was, told, missing = begun.member, begun.member.requests, 0
    while missing < _LOOKS_WITHOUT:
        await asyncio.sleep(_LOOK_S)
        there = await _look(admin, was)
        if there is None:
            continue
        named = [member for member in there if member.id == was.id and member.kind is was.kind]
        now = next((member for member in named if member.started_s == was.started_s), None)
        if now is None and named:
            return f"{was.title} has drained, and has been started anew"
        if now is None:
            missing += 1
            continue
        missing = 0
        if now.requests != told:
            told = now.requests
            say(f"{was.title}: {_left(now)}")
    return f"{was.title} has drained and is gone"


async def _look(admin: AdminClient, was: Member) -> tuple[Member, ...] | None:
    """Who is there; None where that cannot be said now. A gateway that drains may be the one that is asked."""
    from headrace.contract.admin import MemberKind
    from headrace.contract.errors import Unavailable

    try:
        return await admin.members()
    except Unavailable as error:
        return () if was.kind is MemberKind.GATEWAY and error.what == "gateway" else None


def _left(member: Member) -> str:
    return "nothing left" if member.requests == 0 else f"{member.requests} left"


def _say(line: str) -> None:
    typer.echo(line, err=True)
