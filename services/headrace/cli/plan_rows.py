"""What `headrace plan` finds: for each model, machine and compute type whether it fits, and how fast it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from headrace.cli.plan_model import PlannedModel
from headrace.cli.plan_speed import find_calibration, speed_of
from headrace.models.fitting import largest_fit
from headrace.models.machine import CUDA, PLANNED_TYPES, Machine
from headrace.models.memory import MemoryNeed, needed_bytes, planned_lengths
from headrace.models.speed import Load, Speed
from headrace.worker.calibration import Calibration

PROCESS_BYTES = 70_000_000
"""Of a worker's process before it has a model."""
_SPARE = 0.1
"""Of the memory: what a machine wants for itself, and what the estimate may be wrong by."""
_CUDA_LANES = 2

Known = Callable[[PlannedModel], Sequence[Calibration]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the machines are to carry. None: what suits the model and the machine."""

    lanes: int | None
    max_batch: int
    context: int | None
    prompt: int | None
    compute_types: tuple[str, ...] = PLANNED_TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One compute type of one model on one machine."""

    model: PlannedModel
    machine: Machine
    compute_type: str
    load: Load
    context: int
    need: MemoryNeed | None
    """None where the machine does not compute in it."""
    speed: Speed | None
    """None likewise."""
    calibrated: str = ""
    """When, for a speed that was measured."""

    @property
    def needed(self) -> int:
        """Bytes in all, with the process; 0 where there is nothing to need them."""
        if self.need is None:
            return 0
        return self.need.total + _process(self.machine)

    @property
    def overhead(self) -> int:
        """Bytes likewise, beside weights, keys and values."""
        return 0 if self.need is None else self.need.overhead + _process(self.machine)

    @property
    def most(self) -> tuple[int, int] | None:
        """The most lanes and entries of each that fit where the load does not; None where it does, or nothing."""
        if self.need is None or self.fits != "no":
            return None
        room = round((1 - _SPARE) * self.machine.memory_bytes) - _process(self.machine)
        return largest_fit(
            lambda lanes, batch: self._need(lanes, batch).total <= room,
            lanes=self.load.lanes,
            batch=self.load.batch,
        )

    @property
    def fits(self) -> str:
        """`yes`, `barely` (it leaves less than a tenth of the memory), `no`, or `unsupported`."""
        if self.need is None:
            return "unsupported"
        if self.needed > self.machine.memory_bytes:
            return "no"
        return "yes" if self.needed <= (1 - _SPARE) * self.machine.memory_bytes else "barely"

    def _need(self, lanes: int, batch: int) -> MemoryNeed:
        return needed_bytes(
            self.model.shape,
            self.compute_type,
            lanes,
            batch,
            self.context,
            prompt=self.load.prompt,
            device=self.machine.kind,
        )


def make_rows(
    models: Sequence[PlannedModel], machines: Sequence[Machine], asked: Asked, known: Known
) -> Iterator[Row]:
    """In the order of the models, the machines and `PLANNED_TYPES`."""
    for model in models:
        calibrations = known(model)
        for machine in machines:
            for compute_type in asked.compute_types:
                calibration = find_calibration(calibrations, machine, compute_type)
                yield _row(model, machine, compute_type, asked, calibration)


def _row(
    model: PlannedModel, machine: Machine, compute_type: str, asked: Asked, calibration: Calibration | None
) -> Row:
    context, prompt = planned_lengths(model.shape.context_length, asked.context, asked.prompt)
    load = Load(lanes=_lanes(machine, asked, calibration), batch=asked.max_batch, prompt=prompt)
    if compute_type not in machine.compute_types:
        return Row(
            model=model,
            machine=machine,
            compute_type=compute_type,
            load=load,
            context=context,
            need=None,
            speed=None,
        )
    need = needed_bytes(
        model.shape, compute_type, load.lanes, load.batch, context, prompt=prompt, device=machine.kind
    )
    return Row(
        model=model,
        machine=machine,
        compute_type=compute_type,
        load=load,
        context=context,
        need=need,
        speed=speed_of(model.shape, compute_type, machine, load, calibration),
        calibrated=calibration.measured if calibration else "",
    )


def _process(machine: Machine) -> int:
    return 0 if machine.kind == CUDA else PROCESS_BYTES


def _lanes(machine: Machine, asked: Asked, calibration: Calibration | None) -> int:
    """As a worker would have them."""
    if asked.lanes:
        return asked.lanes
    if calibration is not None:
        return calibration.lanes
    return _CUDA_LANES if machine.kind == CUDA else machine.cores
