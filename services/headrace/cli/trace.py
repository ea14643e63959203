"""`headrace trace` and `headrace traces`: what recent requests took, and why."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.options import AddressOption, JsonOption

if TYPE_CHECKING:
    from headrace.contract.spans import RequestTrace, SpanRecord, TraceList, TraceSummary

_PIPE_WIDTH = 200
"""Where no terminal says how wide it is."""


def trace(
    request_id: Annotated[
        str, typer.Argument(metavar="ID", help="A request's id, or a trace's: 32 hex digits.")
    ],
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where the time of one request went: its spans over all processes, and the cause in words.

    Read from what the gateway remembers of recent requests (`traces.recent`); no other backend is needed. Asked from
    the gateway's own machine, or with its HEADRACE_GATEWAY_ADMIN_TOKEN.
    """
    from headrace.cli.gateway_call import call_admin

    found = call_admin(address, lambda admin: admin.trace(request_id))
    if as_json:
        import json

        typer.echo(json.dumps(trace_fields(found), indent=2, ensure_ascii=False))
    else:
        _print_trace(found)


def traces(
    address: AddressOption = None,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the latest first.")] = 20,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only those that failed, were refused, expired or were given up.")
    ] = False,
) -> None:
    """List the recent requests that the gateway remembers, each with what took its time.

    Asked from the gateway's own machine, or with its HEADRACE_GATEWAY_ADMIN_TOKEN.
    """
    from headrace.cli.gateway_call import call_admin

    found = call_admin(address, lambda admin: admin.traces(limit, failed_only=failed))
    if as_json:
        import json

        typer.echo(json.dumps([summary_fields(each) for each in found.traces], indent=2, ensure_ascii=False))
    else:
        _print_list(found)


def summary_fields(summary: TraceSummary) -> dict[str, Any]:
    """A request in the list, for other programs."""
    from dataclasses import asdict

    return asdict(summary)


def trace_fields(found: RequestTrace) -> dict[str, Any]:
    """A request's trace for other programs."""
    return {
        "causes": list(found.causes),
        **summary_fields(found.summary),
        "spans": [_span_fields(span) for span in found.spans],
        "others": list(found.others),
    }


def _span_fields(span: SpanRecord) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(span), "kind": span.kind.value}


def _print_trace(found: RequestTrace) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from headrace.cli.stream_view import harmless
    from headrace.traces.waterfall import waterfall

    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)
    summary = found.summary
    console.print(
        Text(harmless(summary.request_id or "(no request)", sys.stdout), style="bold"),
        Text(harmless(f"{summary.model} {summary.priority} {summary.tenant}", sys.stdout)),
        Text(summary.outcome or "not ended", style="green" if summary.outcome == "completed" else "yellow"),
        Text(f"{summary.duration_s:.3f} s   trace {summary.trace_id}", style="dim"),
    )
    lines, total_s = waterfall(found.spans)
    table = Table(box=None, pad_edge=False, show_header=False)
    for line in lines:
        took = "" if line.duration_s is None else f"{line.duration_s * 1000:,.0f} ms"
        table.add_row(
            Text(harmless("  " * line.depth + line.title, sys.stdout), style="red" if line.failed else ""),
            Text(f"{line.start_s * 1000:,.0f}", style="dim", justify="right"),
            Text(line.bar(total_s), style="cyan"),
            Text(took, justify="right"),
            Text(harmless(line.where, sys.stdout), style="dim"),
            Text(harmless(line.notes, sys.stdout)),
        )
    console.print(table)
    for number, cause in enumerate(found.causes):
        console.print(Text(harmless(cause, sys.stdout), style="" if number else "bold"), soft_wrap=True)
    if found.others:
        console.print(
            Text(
                f"The trace has {len(found.others)} more: {harmless(', '.join(found.others[:10]), sys.stdout)}"
            )
        )


def _print_list(found: TraceList) -> None:
    from datetime import datetime

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from headrace.cli.stream_view import harmless

    table = Table("began", "request", "model", "class", "ended", "s", "cause", box=box.SIMPLE, pad_edge=False)
    for each in found.traces:
        table.add_row(
            datetime.fromtimestamp(each.started_s).astimezone().strftime("%H:%M:%S"),
            harmless(each.request_id or each.trace_id, sys.stdout),
            harmless(each.model, sys.stdout),
            harmless(each.priority, sys.stdout),
            Text(each.outcome or each.error, style="" if each.outcome == "completed" else "yellow"),
            f"{each.duration_s:.2f}",
            harmless(each.cause, sys.stdout),
        )
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)
    console.print(table)
    memory = found.memory
    if not memory.on:
        console.print("This gateway remembers nothing: traces.recent is off.")
        return
    lost = f", {memory.dropped_spans} spans lost on the way" if memory.dropped_spans else ""
    console.print(
        Text(
            f"{memory.requests} requests in {memory.bytes / 2**20:.1f} of {memory.max_bytes / 2**20:.0f} MiB{lost}",
            style="dim",
        )
    )
