"""How fast a model is on a machine: as it was calibrated there, or else as estimated."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.models.machine import CPU, Machine
from headrace.models.network_shape import NetworkShape
from headrace.models.speed import Load, Speed, estimate_speed
from headrace.router.core.cost import CostModel
from headrace.worker.calibration import Calibration

_SAME_ON_A_CPU = {"int8": "int8_float32"}
"""There the engine computes both alike."""


def find_calibration(known: Sequence[Calibration], machine: Machine, compute_type: str) -> Calibration | None:
    """The latest one of `known` that was made on such a machine in that compute type; None where there is none."""
    fitting = [
        one
        for one in known
        if one.fingerprint.device == machine.kind
        and one.fingerprint.device_name == machine.device_name != ""
        and one.fingerprint.cores == machine.cores
        and _type(one.fingerprint.compute_type, machine) == _type(compute_type, machine)
    ]
    return max(fitting, key=lambda one: one.measured, default=None)


def speed_of(
    shape: NetworkShape, compute_type: str, machine: Machine, load: Load, calibration: Calibration | None
) -> Speed:
    """By the calibration where there is one. Lanes beyond those that were at work then make nothing more."""
    if calibration is None:
        return estimate_speed(shape, compute_type, machine, load)
    cost = CostModel(calibration.cost)
    alone_s = cost.step(1, load.prompt)
    return Speed(
        first_token_s=cost.prefill(1, load.prompt) + alone_s,
        one_tokens_per_s=1 / alone_s,
        tokens_per_s=min(load.lanes, calibration.lanes) * load.batch / cost.step(load.batch, load.prompt),
        measured=True,
    )


def _type(compute_type: str, machine: Machine) -> str:
    return _SAME_ON_A_CPU.get(compute_type, compute_type) if machine.kind == CPU else compute_type
