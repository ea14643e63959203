"""`headrace plan`: which machine a model needs, or which model a machine carries, told before anything is loaded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.failures import one_line_errors
from headrace.cli.options import (
    AddressOption,
    ConfigOption,
    DeviceOption,
    JsonOption,
    MaxBatchOption,
    ModelStoreOption,
    SetOption,
    gather_overrides,
    read_settings,
)

if TYPE_CHECKING:
    from headrace.models.machine import Machine
    from headrace.runtime.settings import Settings

_MOST_CONTEXT = 10_000_000


def plan(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL…",
            help="A model in the store, a model folder, a GGUF file, or a number of parameters such as 7B.",
            show_default=False,
        ),
    ],
    machine: Annotated[
        list[str] | None,
        typer.Option(
            "--machine",
            metavar="TEXT|FILE.toml",
            help="A machine in words, such as 'cpu 8 cores 32GB 40GB/s' or 'h200 141GB', or a file with kind, name,"
            " cores, memory, bandwidth, compute_types. Repeatable. Default: this machine.",
            show_default=False,
        ),
    ] = None,
    mesh: Annotated[bool, typer.Option("--mesh", help="For each worker of the running mesh.")] = False,
    address: AddressOption = None,
    lanes: Annotated[
        int | None,
        typer.Option(
            "--lanes",
            metavar="N",
            min=1,
            max=1024,
            help="Lanes that run batches; spare ones that hold paused batches take as much memory. Default: as"
            " calibrated, or one per core; 2 on a GPU.",
            show_default=False,
        ),
    ] = None,
    max_batch: MaxBatchOption = None,
    context: Annotated[
        int | None,
        typer.Option(
            "--context",
            metavar="TOKENS",
            min=1,
            max=_MOST_CONTEXT,
            help="Prompt and output of each request together. Default: 1024, or the model's limit where that is less.",
            show_default=False,
        ),
    ] = None,
    prompt: Annotated[
        int | None,
        typer.Option(
            "--prompt",
            metavar="TOKENS",
            min=1,
            max=_MOST_CONTEXT,
            help="How many of them are the prompt. Default: half.",
            show_default=False,
        ),
    ] = None,
    compute_type: Annotated[
        list[str] | None,
        typer.Option(
            "--compute-type",
            metavar="TYPE",
            help="Only this number format. Repeatable. Default: all that machines have.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
    store: ModelStoreOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Tell whether models fit a machine, in which number formats, and about how fast they are there.

    Memory is estimated from the network's shape. Speeds are as calibrated where there is a calibration for such a
    machine, and else follow from its memory's bandwidth and its arithmetic; each line says which.
    """
    flags = {"models": store, "worker.device": device, "worker.max_batch": max_batch}
    settings = read_settings(config, gather_overrides(assignments, flags))
    with one_line_errors():
        _check(machine, mesh, address, compute_type)

    # The engine, which not every command needs.
    from headrace.cli.plan_model import find_model
    from headrace.cli.plan_rows import Asked, make_rows
    from headrace.cli.plan_view import row_fields, show
    from headrace.models.machine import PLANNED_TYPES
    from headrace.models.store import ModelStore
    from headrace.worker.calibration_store import CalibrationStore

    with one_line_errors():
        kept = ModelStore(settings.models)
        planned = [find_model(kept, text) for text in dict.fromkeys(models)]
        machines = _machines(settings, machine, mesh or address is not None, address)
        asked = Asked(
            lanes=lanes,
            max_batch=settings.worker.max_batch,
            context=context,
            prompt=prompt,
            compute_types=tuple(dict.fromkeys(compute_type or PLANNED_TYPES)),
        )
        calibrations = CalibrationStore(kept)
        rows = list(
            make_rows(
                planned,
                machines,
                asked,
                lambda model: calibrations.of(model.manifest) if model.manifest else (),
            )
        )
    if as_json:
        typer.echo(json.dumps([row_fields(row) for row in rows], indent=2))
    else:
        show(rows)


def _check(
    machine: list[str] | None, mesh: bool, address: str | None, compute_types: list[str] | None
) -> None:
    from headrace.contract.errors import InvalidRequest
    from headrace.models.machine import PLANNED_TYPES

    if machine and (mesh or address is not None):
        raise InvalidRequest("--machine", "goes with neither --mesh nor --address: it is one or the other")
    if unknown := [one for one in compute_types or () if one not in PLANNED_TYPES]:
        raise InvalidRequest(
            "--compute-type", f"{', '.join(unknown)!r} is none of {', '.join(PLANNED_TYPES)}"
        )


def _machines(
    settings: Settings, described: list[str] | None, mesh: bool, address: str | None
) -> list[Machine]:
    from headrace.cli.plan_machine import mesh_machines, read_machine, this_machine
    from headrace.contract.errors import StartError

    if described:
        return [read_machine(text) for text in described]
    if not mesh:
        return [this_machine(settings.worker.device)]
    from headrace.cli.gateway_call import call_admin

    found = mesh_machines(call_admin(address, lambda admin: admin.members()))
    if not found:
        raise StartError(
            "no worker of the mesh says what it runs on", "Describe one: --machine 'cpu 8 cores 32GB'"
        )
    return found
