"""Whether a model fits into the memory that is left, before it is loaded: the system would end the process later.

What it takes is told by `headrace.models.memory`, as for `headrace plan`: with a request in each lane that runs at
once, of the length that a plan reckons with. Where that fits, and full batches in all lanes do not, the log says what
does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import psutil
import structlog

from headrace.contract.work import Device
from headrace.models.errors import BadModelFile, NotEnoughMemory, UnsupportedModel
from headrace.models.fitting import largest_fit
from headrace.models.memory import needed_by_files, needed_bytes, planned_lengths
from headrace.models.shape_of_ctranslate2 import shape_of_stored
from headrace.models.store import StoredModel
from headrace.worker.cuda_driver import free_cuda_bytes
from headrace.worker.device import choose_compute_type
from headrace.worker.hardware import usable_memory_bytes
from headrace.worker.serving import Placing
from headrace.worker.trial import process_bytes

log = structlog.get_logger(__name__)

_KEPT_FREE = 0.05
"""Of the device's memory: estimates err, and others grow."""
_CGROUP = Path("/sys/fs/cgroup")

Need = Callable[[int, int], int]
"""Bytes that a model takes with so many lanes at work, each with a batch of so many requests."""


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


def room_bytes(device: Device, taken: int) -> int:
    """Memory of the device that is free for another model: not what was reckoned with for those that are loaded,
    `taken` in all, and that they have not used yet.
    """
    used = process_bytes() if device.kind == "cpu" else taken
    return max(0, free_bytes(device) - max(0, taken - used))


def need_of(model: StoredModel, placing: Placing) -> Need:
    """What a model of the store takes here: by its shape, which its header tells, or else by the size of its files.
    Raises StartError where the device has not the compute type.
    """
    manifest, device = model.manifest, placing.device.kind
    if manifest.engine == "fake":
        return lambda lanes, batch: manifest.size
    computed = choose_compute_type(placing.compute_type, manifest.quantisation, placing.device)
    try:
        shape = shape_of_stored(model)
    except (UnsupportedModel, BadModelFile):
        stored = sum(entry.size for file, entry in manifest.files.items() if file.endswith(".bin"))
        kind = manifest.quantisation
        return lambda lanes, batch: needed_by_files(stored, kind, computed, lanes, device).total
    context, prompt = planned_lengths(shape.context_length)
    return lambda lanes, batch: (
        needed_bytes(shape, computed, lanes, batch, context, prompt=prompt, device=device).total
    )


def check_memory(
    reference: str,
    need: Need,
    *,
    slots: int,
    max_batch: int,
    free: int,
    taken: int,
    limit: int | None,
    remedy: str,
) -> int:
    """The bytes to reckon with for a model whose batches run `slots` at once. Raises NotEnoughMemory unless so many are
    free, and within the `limit` of which other models have `taken`.
    """
    left = max(0, free if limit is None else min(free, limit - taken))
    needed = need(slots, 1)
    fits = largest_fit(lambda lanes, batch: need(lanes, batch) <= left, lanes=slots, batch=max_batch)
    if needed > left:
        fewer = "" if fits is None else f"set worker.lanes to {_most_lanes(need, slots, left)}, "
        raise NotEnoughMemory(reference, needed, left, f"{fewer}{remedy}")
    if fits is not None and fits != (slots, max_batch):
        log.warning(
            "memory.tight",
            model=reference,
            free_bytes=left,
            wanted_bytes=need(slots, max_batch),
            problem=f"{slots} lanes with batches of {max_batch} long requests take more than is free",
            remedy=f"set worker.lanes to {fits[0]} and worker.max_batch to {fits[1]}, or keep requests short",
        )
    return needed


def _most_lanes(need: Need, slots: int, left: int) -> int:
    return max(lanes for lanes in range(1, slots + 1) if need(lanes, 1) <= left)


def _reclaimable() -> int:
    """File pages that the container holds and gives back when they are needed."""
    try:
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("inactive_file ", "active_file ")))
