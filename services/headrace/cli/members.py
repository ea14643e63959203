"""`headrace members`: the processes of the mesh."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.options import AddressOption, JsonOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.contract.admin import Member

_PIPE_WIDTH = 200
"""Where no terminal says how wide it is: enough for a member a line."""


ScrapeOption = Annotated[
    bool,
    typer.Option(
        "--prometheus",
        help="Print where Prometheus finds their metrics, as its file_sd_configs reads it.",
        show_default=False,
    ),
]


def members(
    address: AddressOption = None, as_json: JsonOption = False, prometheus: ScrapeOption = False
) -> None:
    """List the routers, gateways and workers of the mesh, as they answer now.

    Asked from the gateway's own machine, or with its HEADRACE_GATEWAY_ADMIN_TOKEN.
    """
    from headrace.cli.gateway_call import call_admin

    found = call_admin(address, lambda admin: admin.members())
    if prometheus:
        typer.echo(json.dumps(scrape_targets(found), indent=2))
    elif as_json:
        typer.echo(json.dumps([member_fields(member) for member in found], indent=2))
    else:
        _print_table(found)


def member_fields(member: Member) -> dict[str, Any]:
    """A member for other programs."""
    from datetime import UTC, datetime

    started = datetime.fromtimestamp(member.started_s, UTC).isoformat(timespec="milliseconds")
    return {
        "kind": member.kind.value,
        "id": member.id,
        "address": member.address,
        "started": started,
        "draining": member.draining,
        "requests": member.requests,
        "router": member.router,
        "lanes": member.lanes,
        "busy_lanes": member.busy_lanes,
        "slots": member.slots,
        "paused_lanes": member.paused_lanes,
        "models": list(member.models),
        "device": member.device,
        "metrics": member.metrics,
    }


def scrape_targets(found: Sequence[Member]) -> list[dict[str, Any]]:
    """The members that have an endpoint, for Prometheus: a target each, with what the member is as labels."""
    return [
        {
            "targets": [member.metrics],
            "labels": {"headrace_kind": member.kind.value, "headrace_member": member.id},
        }
        for member in found
        if member.metrics
    ]


def _print_table(found: Sequence[Member]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from headrace.cli.stream_view import harmless
    from headrace.contract.admin import MemberKind

    table = Table(
        "kind", "id", "at", "state", "requests", "lanes busy", "models", "up", box=box.SIMPLE, pad_edge=False
    )
    for member in found:
        worker = member.kind is MemberKind.WORKER
        table.add_row(
            member.kind.value,
            Text(harmless(member.id, sys.stdout), style="bold"),
            harmless(f"{member.router} ({member.device})" if worker else member.address, sys.stdout),
            Text("draining", style="yellow") if member.draining else "serving",
            str(member.requests),
            "" if member.kind is MemberKind.GATEWAY else _lanes(member),
            harmless(", ".join(member.models), sys.stdout),
            since(time.time() - member.started_s) if member.started_s else "",
        )
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False).print(table)


def _lanes(member: Member) -> str:
    """`2 of 2, 1 paused`: those that run, of those that may at once, and beside them the paused ones."""
    running = f"{member.busy_lanes - member.paused_lanes} of {member.slots or member.lanes}"
    return f"{running}, {member.paused_lanes} paused" if member.paused_lanes else running


def since(seconds: float) -> str:
    """`42s`, `5m 3s`, `2h 5m`, `3d 4h`."""
    whole = max(0, int(seconds))
    units = (("d", whole // 86_400), ("h", whole // 3600 % 24), ("m", whole // 60 % 60), ("s", whole % 60))
    first = next((place for place, (_, count) in enumerate(units) if count), len(units) - 1)
    return " ".join(f"{count}{unit}" for unit, count in units[first : first + 2] if count or unit == "s")
