"""Which device the models run on, and in which number format. Everything is asked before it is tried.

The engine's own "default" falls back in silence, and its question about CUDA's formats raises without a driver: so
devices are counted first, and the format is always chosen here.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import ctranslate2

from headrace.contract.errors import StartError
from headrace.contract.work import Device
from headrace.worker.cuda_driver import describe_cuda_device
from headrace.worker.hardware import processor_name, usable_cores, usable_memory_bytes

AUTO = "auto"
_AUTOMATIC = (AUTO, "default")
MAX_LANES = 1024
"""Of a worker, spare ones included: a router takes in none with more."""
_SPARE_PER_SLOT = 3
"""One for each class of requests that a higher one may pause."""
_CUDA_LANES = 2
"""On a GPU a lane more hides the gaps between the steps of the other; cores do not count there."""

_CPU_PIECE_TOKENS, _CUDA_PIECE_TOKENS = 1_024, 16_384
"""On a CPU smaller pieces cost more each, and what larger ones compute leaves its caches: MiniLM gets through 1.04
times as many texts as with 512, and as with 2,048. A card has to be filled.
"""


class Inventory(Protocol):
    """What the engine can run on here."""

    def cuda_devices(self) -> int:
        """How many there are; 0 without a driver."""
        ...

    def compute_types(self, kind: str, index: int) -> Collection[str]:
        """The number formats of a device that exists."""
        ...


class EngineInventory:
    """As CTranslate2 sees this machine."""

    def cuda_devices(self) -> int:
        try:
            return int(ctranslate2.get_cuda_device_count())
        except RuntimeError:  # a driver that is too old, say
            return 0

    def compute_types(self, kind: str, index: int) -> Collection[str]:
        try:
            found: Collection[str] = ctranslate2.get_supported_compute_types(kind, index)
        except RuntimeError as error:
            raise StartError(f"the engine cannot use {kind}:{index}: {error}", "Use --device cpu") from error
        return found


def find_device(asked: str, inventory: Inventory) -> Device:
    """The device that `asked` means: `auto`, `cpu`, `cuda` or `cuda:N`. Raises StartError where it is not there."""
    kind, _, number = asked.partition(":")
    count = inventory.cuda_devices() if kind in (AUTO, "cuda") else 0
    if kind == AUTO:
        kind = "cuda" if count else "cpu"
    if kind == "cpu":
        name, memory, index = processor_name(), usable_memory_bytes(), 0
    else:
        index = int(number or 0)
        _check_cuda(asked, index, count)
        name, memory = describe_cuda_device(index)
    return Device(
        kind=kind,
        index=index,
        name=name,
        cores=usable_cores(),
        memory_bytes=memory,
        compute_types=tuple(sorted(inventory.compute_types(kind, index))),
    )


def _check_cuda(asked: str, index: int, count: int) -> None:
    if not count:
        raise StartError(
            f"device {asked} was asked for, and this machine has no CUDA device that the engine can use",
            "Use --device cpu, or install the NVIDIA driver and CUDA 12",
        )
    if index >= count:
        there = "cuda:0" if count == 1 else f"cuda:0 … cuda:{count - 1}"
        raise StartError(
            f"device {asked} was asked for, and there is {there} only", f"Use --device {there[:6]}"
        )


def choose_compute_type(asked: str, stored: str, device: Device) -> str:
    """The number format for a model whose weights are stored as `stored`. Raises StartError where the device has
    not `asked`.

    Left open, it is the stored one where the device has it: nothing is lost, and nothing is converted at the start.
    Else it is what any device of the kind does well.
    """
    there = device.compute_types
    if asked not in _AUTOMATIC:
        if asked in there:
            return asked
        raise StartError(
            f"compute type {asked} was asked for, and {device.kind} here supports {', '.join(there)} only",
            f"Use --compute-type {choose_compute_type(AUTO, stored, device)}",
        )
    if stored in there:
        return stored
    return "float16" if device.kind == "cuda" and "float16" in there else "float32"


def choose_lanes(asked: int, threads_per_lane: int, device: Device) -> int:
    """How many lanes run at once: as asked, or with 0 as many as the device carries; on a CPU so many that each
    thread has a core.
    """
    if asked:
        return asked
    return _CUDA_LANES if device.kind == "cuda" else max(1, device.cores // threads_per_lane)


def choose_spare_lanes(asked: int | None, slots: int) -> int:
    """How many lanes beside the `slots` that run at once: as asked or by default, as far as a worker may have them."""
    return min(_SPARE_PER_SLOT * slots if asked is None else asked, MAX_LANES - slots)


def choose_piece_tokens(asked: int, device: Device) -> int:
    """Tokens of texts that are embedded in one computation: as asked, or what suits the kind of device."""
    return asked or (_CUDA_PIECE_TOKENS if device.kind == "cuda" else _CPU_PIECE_TOKENS)
