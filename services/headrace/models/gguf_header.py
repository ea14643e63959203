"""What stands before the weights in a GGUF file: its metadata, and where each tensor lies.

Every length is compared with what is left of the file before anything is read or made of it, so a damaged file costs no
more time and memory than its size is worth. Source: the format's description, ggml's `docs/gguf.md`, versions 2 and 3.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

_VERSIONS = (2, 3)
_NUMBERS = {
    0: "u1",
    1: "i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_BOOL, _TEXT, _ARRAY = 7, 8, 9
_PAIR_BYTES = 8 + 4 + 1
_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8
"""The least that a pair of metadata, and a tensor's description, take."""
_MOST_DIMENSIONS = 4
_LARGEST_ALIGNMENT = 1 << 16


class UnknownTensorType(ValueError):
    """A tensor's type that the format has got since, or a damaged number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPlace:
    """Where a tensor lies in the file, and how its numbers are written."""

    kind: gguf.GGMLQuantizationType
    shape: tuple[int, ...]
    """Rows first, as numpy has it."""
    start: int
    """Bytes from the file's begin."""
    row_bytes: int
    """Of its last dimension."""

    @property
    def end(self) -> int:
        return self.start + prod(self.shape[:-1]) * self.row_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """A whole one."""

    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorPlace]


def read_header(data: Bytes) -> GgufHeader:
    """The header of the file whose bytes are `data`.

    Raises ValueError for a file that is damaged or truncated, UnknownTensorType for a tensor that nobody here can read.
    """
    reader = _Reader(data)
    reader.skip(4)  # the magic bytes
    if (version := reader.number("<u4")) not in _VERSIONS:
        raise ValueError(f"it is of version {version}; known are 2 and 3, little-endian")
    tensors, pairs = reader.count(_TENSOR_BYTES), reader.count(_PAIR_BYTES)
    metadata: dict[str, Any] = {}
    for _ in range(pairs):
        key = reader.text()
        if key in metadata:
            raise ValueError(f"its metadata has {key!r} twice")
        metadata[key] = reader.value(reader.number("<u4"))
    described = [_read_tensor(reader) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= _LARGEST_ALIGNMENT:
        raise ValueError(f"'general.alignment' is {alignment!r}")
    begin = reader.at + -reader.at % alignment
    found: dict[str, TensorPlace] = {}
    for name, kind, shape, row_bytes, offset in described:
        place = TensorPlace(kind=kind, shape=shape, start=begin + offset, row_bytes=row_bytes)
        if name in found:
            raise ValueError(f"it has tensor {name!r} twice")
        if place.end > len(data):
            raise ValueError(f"damaged or truncated: tensor {name!r} ends behind the file's end")
        found[name] = place
    return GgufHeader(metadata=metadata, tensors=found)


def _read_tensor(reader: _Reader) -> tuple[str, gguf.GGMLQuantizationType, tuple[int, ...], int, int]:
    name = reader.text()
    dimensions = reader.number("<u4")
    if not 0 < dimensions <= _MOST_DIMENSIONS:
        raise ValueError(f"tensor {name!r} has {dimensions} dimensions")
    shape = tuple(reversed([reader.number("<u8") for _ in range(dimensions)]))
    number, offset = reader.number("<u4"), reader.number("<u8")
    try:
        kind = gguf.GGMLQuantizationType(number)
    except ValueError as error:
        raise UnknownTensorType(f"tensor {name!r} is of the unknown type {number}") from error
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    if not all(shape) or shape[-1] % block:
        raise ValueError(f"tensor {name!r} is of shape {shape}, in blocks of {block}")
    return name, kind, shape, shape[-1] // block * block_bytes, offset


class _Reader:
    """Reads on from `at`."""

    def __init__(self, data: Bytes) -> None:
        self._data = data
        self.at = 0

    def skip(self, count: int) -> Bytes:
        """The next `count` bytes."""
        if count > len(self._data) - self.at:
            raise ValueError("damaged or truncated")
        self.at += count
        return self._data[self.at - count : self.at]

    def number(self, kind: str) -> int:
        return int(np.frombuffer(self.skip(np.dtype(kind).itemsize), dtype=kind)[0])

    def count(self, least_bytes: int) -> int:
        """How many of something follow, each of which takes `least_bytes` or more."""
        (found,) = struct.unpack("<Q", self.skip(8).tobytes())
        if found * least_bytes > len(self._data) - self.at:
            raise ValueError("damaged or truncated")
        return int(found)

    def text(self) -> str:
        return self.skip(self.count(1)).tobytes().decode()

    def value(self, kind: int) -> Any:
        if kind in _NUMBERS:
            return np.frombuffer(self.skip(np.dtype(_NUMBERS[kind]).itemsize), dtype=_NUMBERS[kind])[0].item()
        if kind == _BOOL:
            return self.number("u1") != 0
        if kind == _TEXT:
            return self.text()
        if kind == _ARRAY:
            return self._array(self.number("<u4"))
        raise ValueError(f"its metadata has a value of the unknown type {kind}")

    def _array(self, kind: int) -> list[Any]:
        if kind == _TEXT:
            return [self.text() for _ in range(self.count(8))]
        number = "?" if kind == _BOOL else _NUMBERS.get(kind)
        if number is None:
            raise ValueError("its metadata has an array of arrays, or of an unknown type")
        size = np.dtype(number).itemsize
        found: list[Any] = np.frombuffer(self.skip(self.count(size) * size), dtype=number).tolist()
        return found
