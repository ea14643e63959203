"""The flags of `headrace simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_LOAD = "Load"
_FLEET = "Fleet"
_POLICY = "Policies"
_MEASURE = "Study"

LoadOption = Annotated[
    str,
    typer.Option(
        "--load",
        metavar="FILE|synthetic",
        help="CSV with arrival_s, prompt_tokens, output_tokens; or drawn, like a conversation service's.",
        rich_help_panel=_LOAD,
    ),
]
RequestsOption = Annotated[
    int, typer.Option("--requests", min=2, help="Requests per run, without a flood's.", rich_help_panel=_LOAD)
]
OfferedOption = Annotated[
    str | None,
    typer.Option(
        "--offered",
        metavar="N,…",
        help="Output tokens a second that are asked for. Default: 30 to 110 % of what the fleet makes of requests "
        "one by one.",
        show_default=False,
        rich_help_panel=_LOAD,
    ),
]
RateOption = Annotated[
    str | None,
    typer.Option(
        "--rate",
        metavar="N,…",
        help="The same in requests a second.",
        show_default=False,
        rich_help_panel=_LOAD,
    ),
]
SaturatedOption = Annotated[
    bool,
    typer.Option(
        "--saturated", help="All requests are there at once; the makespan counts.", rich_help_panel=_LOAD
    ),
]
ScaleContextOption = Annotated[
    float, typer.Option("--scale-context", min=0.001, help="Divides prompts.", rich_help_panel=_LOAD)
]
ScaleOutputOption = Annotated[
    float, typer.Option("--scale-output", min=0.001, help="Divides outputs.", rich_help_panel=_LOAD)
]
ClassesOption = Annotated[
    str,
    typer.Option("--classes", metavar="SHARES", help="How often each priority comes.", rich_help_panel=_LOAD),
]
TenantsOption = Annotated[
    int,
    typer.Option("--tenants", min=1, max=64, help="Who ask equally often.", rich_help_panel=_LOAD),
]
FloodOption = Annotated[
    str | None,
    typer.Option(
        "--flood",
        metavar="START,SECONDS,FACTOR",
        help="One more tenant that for a while asks FACTOR times as often as all others together.",
        show_default=False,
        rich_help_panel=_LOAD,
    ),
]
MaxTokensOption = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        min=1,
        help="What every client allows, and where longer outputs end. Default: the longest output that there is.",
        show_default=False,
        rich_help_panel=_LOAD,
    ),
]

FleetOption = Annotated[
    str,
    typer.Option(
        "--fleet",
        metavar="WORKERS",
        help="SLOTSxSLOWNESS of each worker, +LANES to hold paused batches (default: as many as slots).",
        rich_help_panel=_FLEET,
    ),
]
GridOption = Annotated[
    str,
    typer.Option(
        "--grid",
        metavar="NAME|FILE",
        help="Measured costs: small, larger, smollm2, or a JSON file.",
        rich_help_panel=_FLEET,
    ),
]
MaxBatchOption = Annotated[
    int,
    typer.Option(
        "--max-batch",
        min=1,
        max=256,
        help="The workers' largest batch, for headrace.",
        rich_help_panel=_FLEET,
    ),
]

PolicyOption = Annotated[
    str,
    typer.Option(
        "--policy",
        metavar="NAME,…",
        help="all, or some of headrace, fifo-rr, fifo-ll, priority-ll, dynamic, oracle.",
        rich_help_panel=_POLICY,
    ),
]
BatchesOption = Annotated[
    str,
    typer.Option(
        "--batches",
        metavar="N,…",
        help="Batch sizes that the others are tried with; the best counts.",
        rich_help_panel=_POLICY,
    ),
]
SchedulerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=NUMBER",
        help="A constant of headrace's scheduler, such as lookahead=64. May be repeated.",
        show_default=False,
        rich_help_panel=_POLICY,
    ),
]
FirstTokenOption = Annotated[
    str,
    typer.Option(
        "--first-token",
        metavar="N,N,N,N",
        help="Objective by priority, in median requests alone on the fastest machine.",
        rich_help_panel=_POLICY,
    ),
]
TokenOption = Annotated[
    str,
    typer.Option(
        "--token-time",
        metavar="N,N,N,N",
        help="Objective for the mean time per output token by priority, in steps of one entry there.",
        rich_help_panel=_POLICY,
    ),
]

SeedsOption = Annotated[
    int,
    typer.Option("--seeds", min=1, max=100, help="Runs of each; medians count.", rich_help_panel=_MEASURE),
]
CapacityOption = Annotated[
    bool,
    typer.Option(
        "--capacity",
        help="Search the most tokens/s with 99 % of the requests served well, and run twice that.",
        rich_help_panel=_MEASURE,
    ),
]
ProcessesOption = Annotated[
    int | None,
    typer.Option(
        "--processes",
        min=1,
        max=256,
        help="Processes that share the runs. Default: one per core.",
        show_default=False,
        rich_help_panel=_MEASURE,
    ),
]
JsonFileOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write all figures there.",
        show_default=False,
        rich_help_panel=_MEASURE,
    ),
]
HtmlFileOption = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Write a page with charts there; it needs no other file.",
        show_default=False,
        rich_help_panel=_MEASURE,
    ),
]
