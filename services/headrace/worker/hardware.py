"""What this process may use of the machine: a container's share of it, where it has one."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Cores that this process may run on: its affinity, and no more than its CPU quota. At least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _quota_cores(cgroup) or cores))


def usable_memory_bytes(cgroup: Path = _CGROUP) -> int:
    """Memory that this process may use: the machine's, and no more than its cgroup's limit."""
    total: int = psutil.virtual_memory().total
    for file in ("memory.max", "memory/memory.limit_in_bytes"):  # cgroup v2, v1
        text = _read(cgroup / file)
        if text.isdigit():
            return min(total, int(text))
    return total


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What the processor calls itself, or ""."""
    for line in _read(cpuinfo).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return ""


def _quota_cores(cgroup: Path) -> int | None:
    """The CPU quota in whole cores, rounded up; None where there is none."""
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")  # cgroup v2
    if not period:
        quota = _read(cgroup / "cpu/cpu.cfs_quota_us")  # cgroup v1; -1 is none
        period = _read(cgroup / "cpu/cpu.cfs_period_us")
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return -(-int(quota) // int(period))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
