"""A GGUF file, opened and checked: its metadata with types, its tensors de-quantised one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import gguf
import numpy as np
import numpy.typing as npt

from headrace.models.errors import BadGguf, UnsupportedModel

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
            self._reader = gguf.GGUFReader(path)
        except OSError as error:
            raise BadGguf(path, error.strerror or str(error)) from error
        except (ValueError, KeyError, IndexError, OverflowError, TypeError) as error:
            if "GGMLQuantizationType" in str(error):
                raise UnsupportedModel(path.name, "it has a tensor of an unknown type") from error
            # What the reader meets when the file ends too early, or has bytes where it should have lengths.
            raise BadGguf(path, "damaged or truncated") from error
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}

    def __repr__(self) -> str:
        return f"GgufFile({self.path.name!r}, {len(self._tensors)} tensors)"

    @property
    def tensor_names(self) -> Sequence[str]:
        return tuple(self._tensors)

    @property
    def weights(self) -> int:
        """How many numbers its tensors hold together."""
        return sum(int(np.prod(tensor.shape, dtype=np.int64)) for tensor in self._tensors.values())

    def has(self, key: str) -> bool:
        """Whether the metadata has `key`."""
        return key in self._reader.fields

    def get(self, key: str, kind: type[_T], default: _T | None = None) -> _T:
        """The metadata value `key`, which must be of `kind`; without a default it must be there."""
        if key not in self._reader.fields:
            if default is not None:
                return default
            raise BadGguf(self.path, f"its metadata has no {key!r}")
        value: Any = self._reader.fields[key].contents()
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
        return tuple(int(n) for n in reversed(self._tensor(name).shape))

    def check_tensor(self, name: str, shape: tuple[int, ...]) -> None:
        """Raises BadGguf where the tensor is missing or not of `shape`, UnsupportedModel where its type is unknown."""
        tensor = self._tensor(name)
        if (found := self.shape(name)) != shape:
            raise BadGguf(self.path, f"tensor {name!r} is of shape {found}, and its metadata says {shape}")
        self._dequantise(name, tensor.data[:1] if len(shape) > 1 else tensor.data)

    def tensor(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        """The tensor, de-quantised to float32, which must be of `shape`."""
        self.check_tensor(name, shape)
        values = self._dequantise(name, self._tensor(name).data)
        return np.ascontiguousarray(values.reshape(shape), dtype=np.float32)

    def rows(self, name: str, start: int, end: int, columns: int) -> FloatArray:
        """Some rows of a matrix, de-quantised to float32. The tensor has been checked."""
        values = self._dequantise(name, self._tensor(name).data[start:end])
        return np.ascontiguousarray(values.reshape(end - start, columns), dtype=np.float32)

    def _dequantise(self, name: str, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
        kind = self._tensor(name).tensor_type
        try:
            values: npt.NDArray[Any] = gguf.quants.dequantize(data, kind)
        except NotImplementedError as error:
            raise UnsupportedModel(
                self.path.name, f"tensor {name!r} is of type {kind.name}, which cannot be de-quantised"
            ) from error
        return values

    def _tensor(self, name: str) -> gguf.gguf_reader.ReaderTensor:
        try:
            return self._tensors[name]
        except KeyError:
            raise BadGguf(self.path, f"it has no tensor {name!r}") from None
