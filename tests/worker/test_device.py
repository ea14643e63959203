"""Devices and number formats: what is taken, and what is refused in which words."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.contract.errors import StartError
from headrace.contract.work import Device
from headrace.worker.device import (
    EngineInventory,
    choose_compute_type,
    choose_lanes,
    choose_spare_lanes,
    find_device,
)
from headrace.worker.hardware import usable_cores, usable_memory_bytes

CPU_TYPES = ("float32", "int8", "int8_float32")
CUDA_TYPES = ("float16", "float32", "int8", "int8_float16")


@dataclass
class Machine:
    """A machine with so many CUDA devices. Like the engine it raises when asked about one that is not there."""

    cards: int = 0

    def cuda_devices(self) -> int:
        return self.cards

    def compute_types(self, kind: str, index: int) -> Collection[str]:
        if kind == "cuda" and index >= self.cards:
            raise RuntimeError("CUDA failed with error")
        return CUDA_TYPES if kind == "cuda" else CPU_TYPES


@pytest.mark.parametrize(
    ("asked", "cards", "kind", "index"),
    [
        ("auto", 0, "cpu", 0),
        ("auto", 2, "cuda", 0),
        ("cpu", 2, "cpu", 0),
        ("cuda", 1, "cuda", 0),
        ("cuda:1", 2, "cuda", 1),
    ],
)
def test_the_device_is_found(asked: str, cards: int, kind: str, index: int) -> None:
    """auto prefers a CUDA device where there is one."""
    device = find_device(asked, Machine(cards))
    assert (device.kind, device.index) == (kind, index)
    assert device.cores >= 1


@pytest.mark.parametrize(
    ("asked", "cards", "told", "remedy"),
    [
        ("cuda", 0, "no CUDA device", "--device cpu"),
        ("cuda:0", 0, "cuda:0 was asked for", "--device cpu"),
        ("cuda:1", 1, "there is cuda:0 only", "--device cuda:0"),
        ("cuda:7", 4, "cuda:0 … cuda:3", "--device cuda:0"),
    ],
)
def test_a_device_that_is_not_there_is_refused(asked: str, cards: int, told: str, remedy: str) -> None:
    """What was asked, what there is, and what to use; the engine is never asked about a device that is not there."""
    with pytest.raises(StartError) as raised:
        find_device(asked, Machine(cards))
    assert told in str(raised.value)
    assert remedy in str(raised.value)


CPU = Device(kind="cpu", cores=6, compute_types=CPU_TYPES)
CUDA = Device(kind="cuda", cores=6, compute_types=CUDA_TYPES)


@pytest.mark.parametrize(
    ("asked", "stored", "device", "chosen"),
    [
        ("auto", "int8", CPU, "int8"),
        ("default", "int8", CPU, "int8"),
        ("auto", "float32", CPU, "float32"),
        ("auto", "float16", CPU, "float32"),
        ("auto", "float16", CUDA, "float16"),
        ("auto", "bfloat16", CUDA, "float16"),
        ("auto", "int8", CUDA, "int8"),
        ("float32", "int8", CPU, "float32"),
    ],
)
def test_the_compute_type_is_chosen_explicitly(asked: str, stored: str, device: Device, chosen: str) -> None:
    """As stored where the device can; never the engine's silent fallback."""
    assert choose_compute_type(asked, stored, device) == chosen


def test_a_compute_type_that_is_not_there_is_refused() -> None:
    """With those there are, and the one to use."""
    with pytest.raises(StartError, match=r"float16.*int8_float32.*--compute-type int8"):
        choose_compute_type("float16", "int8", CPU)


@pytest.mark.parametrize(
    ("asked", "slots", "spare"),
    [(None, 2, 6), (0, 2, 0), (5, 2, 5), (None, 1000, 24), (1023, 1000, 24), (None, 1024, 0)],
)
def test_spare_lanes_follow_the_slots_unless_set(asked: int | None, slots: int, spare: int) -> None:
    """Three for each, and no more than a router takes in all."""
    assert choose_spare_lanes(asked, slots) == spare


def test_lanes_follow_the_cores_unless_set() -> None:
    """On a CPU a core for each thread; the setting wins."""
    assert choose_lanes(0, 1, CPU) == 6
    assert choose_lanes(0, 4, CPU) == 1
    assert choose_lanes(3, 4, CPU) == 3
    assert choose_lanes(0, 1, CUDA) >= 1


def test_this_machine_is_described() -> None:
    """The real engine names its formats for the CPU here, and does not raise over CUDA."""
    device = find_device("auto", EngineInventory())
    assert "float32" in device.compute_types
    assert device.cores >= 1


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_a_container_counts_its_own_share(tmp_path: Path, files: dict[str, str], cores: int | None) -> None:
    """A CPU quota bounds the cores; without one they are those of the affinity."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    unlimited = usable_cores(tmp_path / "none")
    assert usable_cores(tmp_path) == (cores or unlimited)


def test_a_container_counts_its_own_memory(tmp_path: Path) -> None:
    """A memory limit below the machine's is what counts; "max" is none."""
    machine = usable_memory_bytes(tmp_path)
    (tmp_path / "memory.max").write_text("1048576\n")
    assert usable_memory_bytes(tmp_path) == 1048576
    (tmp_path / "memory.max").write_text("max\n")
    assert usable_memory_bytes(tmp_path) == machine
