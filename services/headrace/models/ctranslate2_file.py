"""What a CTranslate2 `model.bin` holds, without its weights: each is skipped, so that a large file is read at once.

Source: `ctranslate2.specs.model_spec.ModelSpec._serialize`, binary version 6.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from headrace.models.errors import BadModelFile

MODEL_FILE = "model.bin"

_VERSIONS = (5, 6)
_MOST_VARIABLES = 1_000_000
_MOST_DIMENSIONS = 8
_SCALAR_BYTES = 8
"""A value so small is kept: heads and the like are such."""
TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
"""By the number that the file has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One of its arrays."""

    shape: tuple[int, ...]
    type: str
    """One of `TYPES`."""
    value: int
    """Of an integer that is no array; 0 else."""

    @property
    def count(self) -> int:
        """How many numbers."""
        count = 1
        for size in self.shape:
            count *= size
        return count


def read_variables(path: Path) -> Mapping[str, Variable]:
    """The arrays of the file by name, aliases left out. Raises BadModelFile."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _Reader(file, size, path).variables()
    except OSError as error:
        raise BadModelFile(path, error.strerror or str(error)) from error
    except (struct.error, UnicodeDecodeError) as error:
        raise BadModelFile(path, "damaged or truncated") from error


class _Reader:
    """Reads on from where the last value ended."""

    def __init__(self, file: BinaryIO, size: int, path: Path) -> None:
        self._file = file
        self._size = size
        self._path = path

    def variables(self) -> dict[str, Variable]:
        if (version := self._number("<I")) not in _VERSIONS:
            raise BadModelFile(self._path, f"not a CTranslate2 model of binary version 6 (it says {version})")
        self._string()  # the specification's name
        self._number("<I")  # and its revision
        count = self._number("<I")
        if count > _MOST_VARIABLES:
            raise BadModelFile(self._path, "damaged: no model has so many variables")
        return dict(self._variable() for _ in range(count))

    def _variable(self) -> tuple[str, Variable]:
        name = self._string()
        rank = self._number("<B")
        if rank > _MOST_DIMENSIONS:
            raise BadModelFile(self._path, "damaged: no variable has so many dimensions")
        shape = tuple(self._number("<I") for _ in range(rank))
        kind, length = self._number("<B"), self._number("<I")
        if kind >= len(TYPES):
            raise BadModelFile(self._path, f"{name} is of an unknown type")
        value = 0
        if length <= _SCALAR_BYTES and TYPES[kind].startswith("int"):
            value = int.from_bytes(self._take(length), "little", signed=True)
        elif self._file.seek(length, os.SEEK_CUR) > self._size:
            raise BadModelFile(self._path, "truncated")
        return name, Variable(shape=shape, type=TYPES[kind], value=value)

    def _string(self) -> str:
        return self._take(self._number("<H"))[:-1].decode()

    def _number(self, form: str) -> int:
        (number,) = struct.unpack(form, self._take(struct.calcsize(form)))
        return int(number)

    def _take(self, count: int) -> bytes:
        found = self._file.read(count)
        if len(found) != count:
            raise BadModelFile(self._path, "truncated")
        return found
