"""Flags that several commands share, and the way from flags to settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.failures import one_line_errors

if TYPE_CHECKING:
    from headrace.runtime.settings import Settings

_PANEL = "Settings"

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="TOML file of settings. Default: HEADRACE_CONFIG, or else ./headrace.toml.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting by its key, such as router.ack_wait_s=10. Repeatable; `headrace settings` lists them.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
NatsUrlOption = Annotated[
    str | None,
    typer.Option(
        "--nats-url",
        metavar="URL",
        help="nats://HOST:PORT of the NATS server to use.",
        show_default=False,
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT,…",
        help="The gateway, or several, with commas between: the next one is called where one does not answer."
        " Default: the one of the settings, 127.0.0.1:7700.",
        show_default=False,
    ),
]
TenantOption = Annotated[str, typer.Option("--tenant", metavar="NAME", help="Whose request it is.")]
NewRequestId = Annotated[
    str | None,
    typer.Option(
        "--request-id",
        metavar="ID",
        help="A ULID or UUIDv7 of your choice: the same request sent again under it is done once.",
        show_default=False,
    ),
]
RequestId = Annotated[str, typer.Argument(metavar="ID", help="The request's id.", show_default=False)]
EventsOption = Annotated[bool, typer.Option("--json", help="Print one JSON object per event and line.")]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print the answer alone, without figures at the end.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="DEVICE", help="auto, cpu, cuda, or cuda:N for one card.", show_default=False
    ),
]
ComputeTypeOption = Annotated[
    str | None,
    typer.Option(
        "--compute-type",
        metavar="TYPE",
        help="Number format to compute in, such as int8, float32, float16; auto takes the fastest.",
        show_default=False,
    ),
]
LanesOption = Annotated[
    int | None,
    typer.Option(
        "--lanes",
        metavar="N",
        help="Batches that run side by side. Default: one per core.",
        show_default=False,
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads-per-lane", metavar="N", help="Threads of each lane.", show_default=False),
]
MaxBatchOption = Annotated[
    int | None,
    typer.Option(
        "--max-batch", metavar="N", help="Requests that one lane decodes together.", show_default=False
    ),
]
ServedModelsOption = Annotated[
    str | None,
    typer.Option(
        "--models",
        metavar="NAMES",
        help="Models to serve, with commas between. Default: all in the model store.",
        show_default=False,
    ),
]
ModelStoreOption = Annotated[
    Path | None,
    typer.Option(
        "--models",
        metavar="PATH",
        help="The model store. Default: HEADRACE_MODELS, or else your cache folder.",
        show_default=False,
    ),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="KEY=VALUE,…",
        help="Free labels of the worker, for placement.",
        show_default=False,
    ),
]


def gather_overrides(assignments: Sequence[str] | None, flags: Mapping[str, object]) -> dict[str, object]:
    """What the command line sets, by dotted key: each `--set`, then the flags that were given, which win."""
    overrides: dict[str, object] = {}
    for assignment in assignments or ():
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise typer.BadParameter(
                f"{assignment!r} must be KEY=VALUE, such as router.port=7701", param_hint="--set"
            )
        overrides[key.strip()] = value.strip()
    return overrides | {key: value for key, value in flags.items() if value is not None}


def read_settings(
    config: Path | None, overrides: Mapping[str, object], environ: Mapping[str, str] | None = None
) -> Settings:
    """The settings; ends the command with exit code 2 and every fault where they have any."""
    from headrace.runtime.settings import load_settings

    with one_line_errors():
        return load_settings(overrides, config=config, environ=environ)
