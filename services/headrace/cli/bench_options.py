"""The flags of `headrace bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

_LOAD = "Load"
_MESH = "Mesh"
_MEASURE = "Measurement"

EngineOption = Annotated[
    Literal["model", "fake"],
    typer.Option("--engine", help="A real model, or one that computes nothing.", rich_help_panel=_MESH),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model", metavar="NAME", help="The real model, from the model store.", rich_help_panel=_MESH
    ),
]
StepOption = Annotated[
    float,
    typer.Option("--step-ms", min=0, help="Time of each step of the fake engine.", rich_help_panel=_MESH),
]
PrefillOption = Annotated[
    float,
    typer.Option(
        "--prefill-ms",
        min=0,
        help="Time of each prompt token of the fake engine.",
        rich_help_panel=_MESH,
    ),
]
RunningOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="Gateway of a running mesh, instead of a mesh of its own.",
        show_default=False,
        rich_help_panel=_MESH,
    ),
]
WorkersOption = Annotated[
    int, typer.Option("--workers", min=1, max=64, help="Workers to start.", rich_help_panel=_MESH)
]

ClientsOption = Annotated[
    str | None,
    typer.Option(
        "--clients",
        metavar="N,…",
        help="Closed loop: consumers at once, one phase for each number. Default: 1,8,32.",
        show_default=False,
        rich_help_panel=_LOAD,
    ),
]
RateOption = Annotated[
    float | None,
    typer.Option(
        "--rate",
        min=0.001,
        help="Open loop: requests a second, whether or not earlier ones are answered.",
        show_default=False,
        rich_help_panel=_LOAD,
    ),
]
RequestsOption = Annotated[
    int | None,
    typer.Option(
        "--requests",
        min=1,
        help="Requests per phase. Default: 8 and 2 more per client; in an open loop those of its time.",
        show_default=False,
        rich_help_panel=_LOAD,
    ),
]
DurationOption = Annotated[
    float | None,
    typer.Option(
        "--duration",
        min=0.1,
        help="Seconds per phase. Default: until all requests are answered; in an open loop 30.",
        show_default=False,
        rich_help_panel=_LOAD,
    ),
]
PromptTokensOption = Annotated[
    str,
    typer.Option(
        "--prompt-tokens",
        metavar="SPAN",
        help="64, 16-256 (uniform) or log:16-256 (log-normal).",
        rich_help_panel=_LOAD,
    ),
]
OutputTokensOption = Annotated[
    str, typer.Option("--output-tokens", metavar="SPAN", help="Likewise.", rich_help_panel=_LOAD)
]
SyntheticOption = Annotated[
    bool,
    typer.Option(
        "--synthetic",
        help="Open loop: lengths and bursts like those of a conversation service.",
        rich_help_panel=_LOAD,
    ),
]
TraceOption = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        metavar="FILE",
        help="Open loop: CSV with arrival_s, prompt_tokens, output_tokens.",
        show_default=False,
        rich_help_panel=_LOAD,
    ),
]
ScaleTimeOption = Annotated[
    float, typer.Option("--scale-time", min=0.001, help="Divides times of a trace.", rich_help_panel=_LOAD)
]
ScalePromptOption = Annotated[
    float,
    typer.Option(
        "--scale-prompt",
        min=0.001,
        help="Divides prompts of a trace or --synthetic.",
        rich_help_panel=_LOAD,
    ),
]
ScaleOutputOption = Annotated[
    float,
    typer.Option(
        "--scale-output",
        min=0.001,
        help="Divides outputs of a trace or --synthetic.",
        rich_help_panel=_LOAD,
    ),
]
PriorityMixOption = Annotated[
    str,
    typer.Option(
        "--priority-mix", metavar="SHARES", help="Such as realtime=1,normal=3.", rich_help_panel=_LOAD
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", help="The same seed makes the same requests.", rich_help_panel=_LOAD)
]

WarmUpOption = Annotated[
    int | None,
    typer.Option(
        "--warm-up",
        min=1,
        help="Requests before each phase that do not count. Default: two per lane.",
        show_default=False,
        rich_help_panel=_MEASURE,
    ),
]
TimeoutOption = Annotated[
    float,
    typer.Option("--timeout", min=0.1, help="Seconds that a request may take.", rich_help_panel=_MEASURE),
]
ClientProcessesOption = Annotated[
    int,
    typer.Option(
        "--client-processes",
        min=1,
        max=64,
        help="Processes that generate the load.",
        rich_help_panel=_MEASURE,
    ),
]
RoundsOption = Annotated[
    int,
    typer.Option(
        "--rounds",
        min=1,
        help="Times that each phase is measured, mesh and engine in turn; medians count.",
        rich_help_panel=_MEASURE,
    ),
]
DirectOption = Annotated[
    bool,
    typer.Option("--direct/--no-direct", help="Measure the engine alone, too.", rich_help_panel=_MEASURE),
]
DirectBatchesOption = Annotated[
    str,
    typer.Option(
        "--direct-batches",
        metavar="SIZES",
        help="Sizes of batches, sorted by length, that are tried on the engine alone.",
        rich_help_panel=_MEASURE,
    ),
]
StreamCheckOption = Annotated[
    bool,
    typer.Option(
        "--stream-check/--no-stream-check",
        help="Fail where a stream has a gap, a repeat or a wrong number of tokens.",
        rich_help_panel=_MEASURE,
    ),
]
JsonFileOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write everything that was measured there.",
        show_default=False,
        rich_help_panel=_MEASURE,
    ),
]
