"""A GGUF file, opened and checked: its metadata with types, its tensors de-quantised one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TypeVar

import gguf
import numpy as np
import numpy.typing as npt

from headrace.models.errors import BadGguf, UnsupportedModel
from headrace.models.gguf_header import Bytes, TensorPlace, UnknownTensorType, read_header

FloatArray = npt.NDArray[np.float32]
_T = TypeVar("_T")

_MAGIC = b"GGUF"


class GgufFile:
    """Typed access to a GGUF file. The file is mapped: a tensor costs memory only while it is used.

    Raises BadGguf on opening where it is not GGUF or is truncated, and on asking for metadata that is missing or of
    another type.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                magic = file.read(len(_MAGIC))
            if magic != _MAGIC:
                raise BadGguf(path, "not a GGUF file" if magic else "the file is empty")
            self._data: Bytes = np.memmap(path, dtype=np.uint8, mode="r")
            header = read_header(self._data)
        except OSError as error:
            raise BadGguf(path, error.strerror or str(error)) from error
        except UnknownTensorType as error:
            raise UnsupportedModel(path.name, f"{error}") from error
        except UnicodeDecodeError as error:
            raise BadGguf(path, "damaged: it has a text that is no UTF-8") from error
        except ValueError as error:
            raise BadGguf(path, str(error)) from error
        self._metadata, self._tensors = header.metadata, header.tensors

    def __repr__(self) -> str:
        return f"GgufFile({self.path.name!r}, {len(self._tensors)} tensors)"

    @property
    def tensor_names(self) -> Sequence[str]:
        return tuple(self._tensors)

    @property
    def weights(self) -> int:
        """How many numbers its tensors hold together."""
        return sum(prod(tensor.shape) for tensor in self._tensors.values())

    def has(self, key: str) -> bool:
        """Whether the metadata has `key`."""
        return key in self._metadata

    def get(self, key: str, kind: type[_T], default: _T | None = None) -> _T:
        """The metadata value `key`, which must be of `kind`; without a default it must be there."""
        if key not in self._metadata:
            if default is not None:
                return default
            raise BadGguf(self.path, f"its metadata has no {key!r}")
        value = self._metadata[key]
        if kind is float and isinstance(value, int):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise BadGguf(self.path, f"{key!r} is not of type {kind.__name__}")
        return value

    def get_list(self, key: str, kind: type[_T]) -> list[_T]:
        """The metadata array `key`, whose items must be of `kind`."""
        values = self.get(key, list)
        if not all(isinstance(value, kind) for value in values):
            raise BadGguf(self.path, f"{key!r} does not hold {kind.__name__} alone")
        return values

    def shape(self, name: str) -> tuple[int, ...]:
        """Rows first, as numpy has it. Raises BadGguf for a tensor that is not there."""
        return self._tensor(name).shape

    def check_tensor(self, name: str, shape: tuple[int, ...]) -> None:
        """Raises BadGguf where the tensor is missing or not of `shape`, UnsupportedModel where its type is unknown."""
        if (found := self.shape(name)) != shape:
            raise BadGguf(self.path, f"tensor {name!r} is of shape {found}, and its metadata says {shape}")
        self._dequantise(name, 0, 1)

    def tensor(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        """The tensor, de-quantised to float32, which must be of `shape`."""
        self.check_tensor(name, shape)
        return self._dequantise(name, 0, prod(shape[:-1])).reshape(shape)

    def rows(self, name: str, start: int, end: int, columns: int) -> FloatArray:
        """Some rows of a matrix, de-quantised to float32. The tensor has been checked."""
        return self._dequantise(name, start, end).reshape(end - start, columns)

    def _dequantise(self, name: str, start: int, end: int) -> FloatArray:
        """The rows from `start` to before `end`, flat. Raises BadGguf where a value is no finite number."""
        place = self._tensor(name)
        first = place.start + start * place.row_bytes
        data = self._data[first : first + (end - start) * place.row_bytes]
        try:
            # Rows stay apart: the blocks of some types are counted by rows.
            values = gguf.quants.dequantize(data.reshape(end - start, -1), place.kind)
        except NotImplementedError as error:
            raise UnsupportedModel(
                self.path.name, f"tensor {name!r} is of type {place.kind.name}, which cannot be de-quantised"
            ) from error
        found: FloatArray = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
        if not np.isfinite(found).all():
            raise BadGguf(self.path, f"damaged: tensor {name!r} has a value that is no number")
        return found

    def _tensor(self, name: str) -> TensorPlace:
        try:
            return self._tensors[name]
        except KeyError:
            raise BadGguf(self.path, f"it has no tensor {name!r}") from None
