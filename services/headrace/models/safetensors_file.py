"""Reads tensors from a safetensors file with numpy alone.

The file is the length of a JSON header (8 bytes, little-endian), the header, which says of each tensor its type, shape
and place, and the tensors. Source: the format's description at https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.errors import BadModelFile
from headrace.models.json_file import parse_json

_LENGTH_BYTES = 8
_MAX_HEADER = 100 * 1024 * 1024
"""Of the header: the format's own limit."""
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}


class SafetensorsFile:
    """One file, mapped into memory: a tensor is read when it is asked for."""

    def __init__(self, path: Path) -> None:
        """Raises BadModelFile where it is none, or is shorter than it says."""
        self._path = path
        try:
            self._bytes: npt.NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise BadModelFile(path, f"cannot be read ({error})") from error
        self._tensors, self._begin = self._read_header()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Raises BadModelFile where there is no such tensor."""
        return tuple(self._entry(name)["shape"])

    def tensor(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """The tensor of that name in 32-bit floats. Raises BadModelFile where there is none, or of another shape."""
        entry = self._entry(name)
        if tuple(entry["shape"]) != shape:
            raise BadModelFile(self._path, f"{name} has the shape {entry['shape']}, not {list(shape)}")
        if entry["dtype"] not in _TYPES:
            raise BadModelFile(self._path, f"{name} is of type {entry['dtype']}, which is not read here")
        kind = np.dtype(_TYPES[entry["dtype"]])
        begin, end = (self._begin + offset for offset in entry["data_offsets"])
        if end > len(self._bytes) or end - begin != prod(shape) * kind.itemsize:
            raise BadModelFile(
                self._path, f"{name} ends behind the file's end, or is not as long as its shape"
            )
        raw = np.frombuffer(self._bytes[begin:end].tobytes(), dtype=kind).reshape(shape)
        if entry["dtype"] == "BF16":  # the upper half of a 32-bit float
            return (raw.astype("<u4") << 16).view("<f4")
        return raw.astype(np.float32)

    def _entry(self, name: str) -> dict[str, Any]:
        if name not in self._tensors:
            raise BadModelFile(self._path, f"it has no tensor {name}")
        return self._tensors[name]

    def _read_header(self) -> tuple[dict[str, dict[str, Any]], int]:
        """What it says of each tensor, and where the first begins."""
        length = int.from_bytes(self._bytes[:_LENGTH_BYTES].tobytes(), "little")
        begin = _LENGTH_BYTES + length
        if len(self._bytes) < _LENGTH_BYTES or length > _MAX_HEADER or begin > len(self._bytes):
            raise BadModelFile(self._path, "it is no safetensors file, or is truncated")
        try:
            header = parse_json(self._bytes[_LENGTH_BYTES:begin].tobytes().decode())
            header.pop("__metadata__", None)
            for entry in header.values():
                low, high = entry["data_offsets"]
                numbers = (low, high, *entry["shape"])
                if not isinstance(entry["dtype"], str) or not all(type(n) is int and n >= 0 for n in numbers):
                    raise ValueError("an entry makes no sense")
                if low > high:
                    raise ValueError("a tensor ends before it begins")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadModelFile(self._path, "its header cannot be read") from error
        return header, begin
