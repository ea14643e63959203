"""The machines of `headrace plan`: described in words or in a file, the workers of a mesh, or this one."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.contract.errors import InvalidRequest
from headrace.models.known_devices import find_known
from headrace.models.machine import CPU, CUDA, PLANNED_TYPES, Machine, make_machine

if TYPE_CHECKING:
    from headrace.contract.admin import Member

_CORES = re.compile(r"(\d{1,4}) ?cores?\b", re.IGNORECASE)
_BANDWIDTH = re.compile(r"(\d{1,6}(?:\.\d{1,3})?) ?([GT])B/s(?!\w)", re.IGNORECASE)
_MEMORY = re.compile(r"(\d{1,6}(?:\.\d{1,3})?) ?([MGT])(i?)B\b(?!/)", re.IGNORECASE)
_UNITS = {"M": 2, "G": 3, "T": 4}
_EXAMPLE = "such as 'cpu 8 cores 32GB 40GB/s' or 'h200 141GB'"
_KEYS = ("kind", "name", "cores", "memory", "bandwidth", "compute_types")
_MACHINE = "--machine"


def read_machine(text: str) -> Machine:
    """The machine that `text` describes, or the TOML file of that name. Raises InvalidRequest("--machine")."""
    if text.endswith(".toml"):
        return _from_file(Path(text).expanduser())
    (cores, bandwidth, memory), words = _numbers(text)
    name = " ".join(words)
    known = find_known(name)
    if not words or (words[0].lower() not in (CPU, CUDA) and known is None):
        raise InvalidRequest(
            _MACHINE, f"{text!r} must begin with cpu, cuda or a card that is known, {_EXAMPLE}"
        )
    kind = CPU if words[0].lower() == CPU else CUDA
    if known is None and len(words) > 1:
        raise InvalidRequest(_MACHINE, f"{text!r}: {' '.join(words[1:])!r} means nothing here, {_EXAMPLE}")
    if memory is None and (kind == CPU or known is None):
        raise InvalidRequest(_MACHINE, f"{text!r} does not say how much memory it has, {_EXAMPLE}")
    if cores is None and kind == CPU:
        raise InvalidRequest(_MACHINE, f"{text!r} does not say how many cores it has, {_EXAMPLE}")
    return _checked(
        text.strip(),
        kind=kind,
        device_name=name,
        cores=int(cores[1]) if cores else 1,
        memory_bytes=_bytes(memory) if memory else known.memory_bytes if known else 0,
        bandwidth=_bytes_per_s(bandwidth) if bandwidth else 0.0,
    )


def _numbers(text: str) -> tuple[list[re.Match[str] | None], list[str]]:
    """Cores, bandwidth and memory where `text` has them, and the words that are left."""
    found = []
    for pattern in (_CORES, _BANDWIDTH, _MEMORY):
        found.append(pattern.search(text))
        text = pattern.sub(" ", text, count=1)
    return found, text.replace(",", " ").split()


def _from_file(path: Path) -> Machine:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(_MACHINE, f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(_MACHINE, f"{path}: not TOML ({error})") from error
    if unknown := sorted(set(document) - set(_KEYS)):
        raise InvalidRequest(
            _MACHINE, f"{path}: {', '.join(unknown)}: no such key; there are {', '.join(_KEYS)}"
        )
    kind = document.get("kind", CPU)
    if kind not in (CPU, CUDA):
        raise InvalidRequest(_MACHINE, f"{path}: kind must be cpu or cuda (was {kind!r})")
    cores = document.get("cores", 1)
    if not isinstance(cores, int) or isinstance(cores, bool):
        raise InvalidRequest(_MACHINE, f"{path}: cores must be a whole number (was {cores!r})")
    memory = _matched(_MEMORY, document, "memory", path)
    if memory is None:
        raise InvalidRequest(_MACHINE, f"{path}: memory is missing, such as memory = '32GB'")
    bandwidth = _matched(_BANDWIDTH, document, "bandwidth", path)
    name = str(document.get("name", path.stem))
    return _checked(
        name,
        kind=kind,
        device_name=name,
        cores=cores,
        memory_bytes=_bytes(memory),
        bandwidth=_bytes_per_s(bandwidth) if bandwidth else 0.0,
        compute_types=_types(document.get("compute_types", []), path),
    )


def _matched(
    pattern: re.Pattern[str], document: Mapping[str, Any], key: str, path: Path
) -> re.Match[str] | None:
    value = document.get(key)
    if value is None:
        return None
    found = pattern.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidRequest(
            _MACHINE,
            f"{path}: {key} must be a number with its unit, such as '40GB/s' or '32GB' (was {value!r})",
        )
    return found


def _types(value: object, path: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(one in PLANNED_TYPES for one in value):
        raise InvalidRequest(_MACHINE, f"{path}: compute_types must be a list of {', '.join(PLANNED_TYPES)}")
    return tuple(value)


def _checked(name: str, **numbers: Any) -> Machine:
    if not 1 <= numbers["cores"] <= 4096:
        raise InvalidRequest(_MACHINE, f"{name!r}: a machine has 1 to 4096 cores")
    if numbers["memory_bytes"] < 1:
        raise InvalidRequest(_MACHINE, f"{name!r}: a machine has memory")
    return make_machine(name=name, **numbers)


def _bytes(found: re.Match[str]) -> int:
    unit: int = (1024 if found[3] else 1000) ** _UNITS[found[2].upper()]
    return round(float(found[1]) * unit)


def _bytes_per_s(found: re.Match[str]) -> float:
    speed = float(found[1]) * 10.0 ** (3 * _UNITS[found[2].upper()])
    if not speed:
        raise InvalidRequest(_MACHINE, "a memory has a bandwidth above 0")
    return speed


def this_machine(asked: str) -> Machine:
    """The device of this machine that a worker would take for `asked`, its memory's bandwidth measured now. Raises
    StartError where it is not there.
    """
    from headrace.worker.bandwidth import measure_bandwidth
    from headrace.worker.device import EngineInventory, find_device

    device = find_device(asked, EngineInventory())
    return make_machine(
        name="this machine",
        kind=device.kind,
        cores=device.cores,
        memory_bytes=device.memory_bytes,
        bandwidth=measure_bandwidth(device.cores) if device.kind == CPU else 0.0,
        compute_types=device.compute_types,
        device_name=device.name,
    )


def mesh_machines(members: Sequence[Member]) -> list[Machine]:
    """The workers among `members`, those apart that do not say what they run on."""
    return [
        make_machine(
            name=member.id,
            kind=member.hardware.kind,
            cores=max(1, member.hardware.cores),
            memory_bytes=member.hardware.memory_bytes,
            compute_types=member.hardware.compute_types,
            device_name=member.hardware.name,
        )
        for member in members
        if member.hardware is not None and member.hardware.memory_bytes
    ]
