"""How many lanes a worker has, and how many threads each: as set, as calibrated, or by the cores."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.contract.errors import HeadraceError
from headrace.contract.work import Device
from headrace.models.store import ModelStore
from headrace.runtime.settings import WorkerSettings
from headrace.worker.calibration import Calibration
from headrace.worker.calibration_store import CalibrationStore
from headrace.worker.device import choose_lanes
from headrace.worker.fingerprint import take_fingerprint
from headrace.worker.serving import choose_models

_CUDA_SHAPES = ((2, 1), (1, 1), (4, 1))
_MOST_THREADS = 8
"""Beyond these no decode step of a batch gains."""


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """Lanes that run side by side, and the threads of each."""

    lanes: int
    threads_per_lane: int

    def __str__(self) -> str:
        return f"{self.lanes} x {self.threads_per_lane}"


def choose_shape(own: WorkerSettings, store: ModelStore, device: Device) -> Shape:
    """The shape of a worker of these settings. Where both numbers are left open, the calibration of the first model
    that it serves decides, and without one a lane of one thread per core.
    """
    if not own.lanes and not own.threads_per_lane:
        known = _calibration(own, store, device)
        if known is not None:
            return Shape(known.lanes, known.threads_per_lane)
    threads = own.threads_per_lane or 1
    return Shape(choose_lanes(own.lanes, threads, device), threads)


def shapes_to_try(device: Device) -> tuple[Shape, ...]:
    """What a calibration compares, the likeliest first: on a CPU all ways to use every core, with more and more
    threads.
    """
    if device.kind == "cuda":
        return tuple(Shape(lanes, threads) for lanes, threads in _CUDA_SHAPES)
    threads, shapes = 1, []
    while threads <= min(device.cores, _MOST_THREADS):
        shapes.append(Shape(device.cores // threads, threads))
        threads *= 2
    return tuple(shapes)


def _calibration(own: WorkerSettings, store: ModelStore, device: Device) -> Calibration | None:
    try:
        manifest = store.open(choose_models(store, own.models)[0]).manifest
        if manifest.engine == "fake":
            return None
        fingerprint = take_fingerprint(manifest, device, own.compute_type)
    except HeadraceError:
        return None  # the model cannot be loaded either, and then it is told
    return CalibrationStore(store).find(manifest, fingerprint)
