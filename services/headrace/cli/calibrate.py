"""`headrace calibrate`: measures a model on this machine, and keeps what came of it beside the models."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.failures import one_line_errors
from headrace.cli.options import (
    ComputeTypeOption,
    ConfigOption,
    DeviceOption,
    JsonOption,
    ModelStoreOption,
    SetOption,
    gather_overrides,
    read_settings,
)

if TYPE_CHECKING:
    from headrace.worker.shape import Shape

_MIN_S, _MAX_S = 1.0, 3600.0
_AUTO = "auto"


def calibrate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model in the store.", show_default=False)],
    device: DeviceOption = None,
    compute_type: ComputeTypeOption = None,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds",
            metavar="S",
            min=_MIN_S,
            max=_MAX_S,
            help="How long to measure. A slow model gets a coarser grid, and a fast one is measured more often.",
        ),
    ] = 60.0,
    lanes_threads: Annotated[
        str,
        typer.Option(
            "--lanes-threads",
            metavar="LxT",
            help="Lanes and threads of each, such as 2x1; auto tries which makes the most.",
        ),
    ] = _AUTO,
    as_json: JsonOption = False,
    models: ModelStoreOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Measure what a model costs on this machine, and which lanes and threads suit it.

    Workers that start here afterwards tell it to their routers, which group and place requests by it, and take the best
    lanes and threads where the settings leave them open. Let nothing else run meanwhile. It holds for this model, this
    machine and this number format; after a change of any of them run it again.
    """
    flags = {"models": models, "worker.device": device, "worker.compute_type": compute_type}
    settings = read_settings(config, gather_overrides(assignments, flags))
    shape = _read_shape(lanes_threads)

    # The engine, which only this command needs.
    from headrace.cli.calibrate_view import CalibrateProgress, show
    from headrace.cli.model_needed import check_there
    from headrace.models.store import ModelStore
    from headrace.worker.calibrate import Asked
    from headrace.worker.calibrate import calibrate as measure
    from headrace.worker.calibration import write_calibration
    from headrace.worker.calibration_store import CalibrationStore
    from headrace.worker.device import EngineInventory, find_device

    with one_line_errors():
        store = ModelStore(settings.models)
        check_there(store, model)
        asked = Asked(
            device=find_device(settings.worker.device, EngineInventory()),
            compute_type=settings.worker.compute_type,
            shape=shape,
            seconds=seconds,
        )
        with CalibrateProgress() as progress:
            calibration = measure(store, model, asked, progress.report)
        path = CalibrationStore(store).save(calibration)
    if as_json:
        typer.echo(write_calibration(calibration), nl=False)
    else:
        show(calibration, path)


def _read_shape(text: str) -> Shape | None:
    from headrace.worker.shape import Shape

    if text == _AUTO:
        return None
    found = re.fullmatch(r"([1-9]\d{0,2})[xX×]([1-9]\d{0,2})", text)
    if found is None:
        raise typer.BadParameter(
            f"{text!r} must be auto, or LANESxTHREADS such as 2x1", param_hint="--lanes-threads"
        )
    return Shape(int(found[1]), int(found[2]))
