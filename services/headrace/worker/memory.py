"""Whether a model fits into the memory that is left, before it is loaded: the system would end the process later.

    needed = weights as computed + weights as stored, where they are converted while they are loaded
             + slots · what a lane takes + what any model takes

What a lane takes comes from the calibration, where there is one.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

from headrace.contract.work import Device
from headrace.models.errors import NotEnoughMemory
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from headrace.worker.calibration_store import CalibrationStore
from headrace.worker.cuda_driver import free_cuda_bytes
from headrace.worker.device import choose_compute_type
from headrace.worker.fingerprint import take_fingerprint
from headrace.worker.hardware import usable_memory_bytes
from headrace.worker.serving import Placing

_ANY_MODEL_BYTES = 32 * 1024 * 1024
"""What the engine takes beside weights and lanes."""
_LANE_SHARE = 0.25
"""Of the weights that a lane takes while it runs, where nobody has measured it: seen were 0.25 to 0.4 of int8 weights
with four requests of 256 tokens, and far less with float32."""
_KEPT_FREE = 0.05
"""Of the device's memory: estimates err, and others grow."""
_WIDTHS = {"int8": 1, "int16": 2, "float16": 2, "bfloat16": 2, "float32": 4}
"""Bytes of a weight."""
_CGROUP = Path("/sys/fs/cgroup")


def free_bytes(device: Device) -> int:
    """Memory of the device that is free now, less what is kept free."""
    if device.kind == "cuda":
        free = free_cuda_bytes(device.index)
        return device.memory_bytes if free is None else free - round(_KEPT_FREE * device.memory_bytes)
    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # a container's share, where it has one
        share = int((_CGROUP / "memory.max").read_text()) - int((_CGROUP / "memory.current").read_text())
        free = min(free, share + _reclaimable())
    return max(0, int(free - _KEPT_FREE * usable_memory_bytes()))


def needed_bytes(manifest: Manifest, store: ModelStore, placing: Placing, slots: int) -> int:
    """About what loading the model takes at most, and running it in as many lanes as run at once.

    Raises StartError where the device has not the compute type.
    """
    if manifest.engine == "fake":
        return manifest.size
    computed = choose_compute_type(placing.compute_type, manifest.quantisation, placing.device)
    stored = sum(entry.size for file, entry in manifest.files.items() if file.endswith(".bin"))
    weights = stored * _width(computed) // _width(manifest.quantisation)
    found = CalibrationStore(store).find(
        manifest, take_fingerprint(manifest, placing.device, placing.compute_type), quiet=True
    )
    lane = found.memory.lane_bytes if found is not None else 0
    converted = stored if weights != stored else 0
    lanes = slots * (lane or round(_LANE_SHARE * stored))
    return weights + max(converted, lanes) + _ANY_MODEL_BYTES


def check_memory(
    reference: str, needed: int, *, free: int, taken: int, limit: int | None, remedy: str
) -> None:
    """Raises NotEnoughMemory unless `needed` bytes are free, and within the `limit` of which other models have
    `taken`.
    """
    left = free if limit is None else min(free, limit - taken)
    if needed > left:
        raise NotEnoughMemory(reference, needed, max(0, left), remedy)


def _width(compute_type: str) -> int:
    """Of `int8_float32` the weights are int8. What is not known is taken as it is."""
    return _WIDTHS.get(compute_type.partition("_")[0], 1)


def _reclaimable() -> int:
    """File pages that the container holds and gives back when they are needed."""
    try:
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("inactive_file ", "active_file ")))
