"""The tensors of a GGUF file as variables of a CTranslate2 model that are computed while the model is saved.

The engine's own library keeps a model in memory until it writes it. Here a variable is a recipe: which rows of which
tensors, in which order, in which number format. Shapes and formats are checked when it is made; the numbers come when
`save` asks for its bytes, and go again. So at most one variable is in memory, whatever the size of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from ctranslate2.specs.model_spec import NumpyVariable, Variable

from headrace.models.gguf_file import FloatArray, GgufFile

Quantisation = Literal["int8", "float16", "float32"]
QUANTISATIONS: tuple[Quantisation, ...] = ("int8", "float16", "float32")
BYTES_PER_WEIGHT = {"int8": 1, "float16": 2, "float32": 4}

TensorProgress = Callable[[int, int], None]
"""Called with (tensors so far, tensors in all)."""

_BLOCK = 4 << 20
"""Weights that are de-quantised at once: 16 MiB as float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A matrix of the file."""

    name: str
    shape: tuple[int, int]
    paired_heads: int = 0
    """Over how many heads its rows are to be put back from pairs to halves; 0: they stay as they are."""


class TensorSource:
    """Makes variables out of the tensors of one file, and counts those that have been computed."""

    def __init__(self, file: GgufFile, quantisation: Quantisation, progress: TensorProgress) -> None:
        self.file = file
        self.quantisation = quantisation
        self._progress = progress
        self._done: set[str] = set()

    def has(self, name: str) -> bool:
        return name in self.file.tensor_names

    def set(self, layer: Any, *parts: Rows) -> None:
        """Gives `layer` the matrices of `parts`, one below the other. Raises BadGguf, UnsupportedModel."""
        for part in parts:
            self.file.check_tensor(part.name, part.shape)
        matrix = _Matrix(self, parts)
        layer.weight = matrix
        if self.quantisation == "int8":
            layer.weight_scale = _Scale(matrix)

    def vector(self, *names: str, size: int | Sequence[int]) -> Variable:
        """The vectors `names`, one after the other; `size` is of each, or of all. Raises BadGguf, UnsupportedModel."""
        sizes = [size] * len(names) if isinstance(size, int) else size
        found = [self.read(name, (n,)) for name, n in zip(names, sizes, strict=True)]
        return self._plain(np.concatenate(found))

    def table(self, name: str, shape: tuple[int, int]) -> Variable:
        """A matrix that the engine keeps unquantised. Raises BadGguf, UnsupportedModel."""
        return self._plain(self.read(name, shape))

    def read(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        values = self.file.tensor(name, shape)
        self.computed(name)
        return values

    def computed(self, name: str) -> None:
        self._done.add(name)
        self._progress(len(self._done), len(self.file.tensor_names))

    def _plain(self, values: FloatArray) -> Variable:
        return NumpyVariable(values.astype(np.float16) if self.quantisation == "float16" else values)


class _Matrix(Variable):  # type: ignore[misc]  # the engine's library is untyped
    """The weights of one layer: computed by `to_bytes`, and not kept."""

    def __init__(self, source: TensorSource, parts: Sequence[Rows]) -> None:
        self._source = source
        self._parts = parts
        self._scale: FloatArray | None = None

    @property
    def shape(self) -> list[int]:
        return [sum(part.shape[0] for part in self._parts), self._parts[0].shape[1]]

    @property
    def dtype(self) -> str:
        return self._source.quantisation

    def num_bytes(self) -> int:
        rows, columns = self.shape
        return rows * columns * np.dtype(self.dtype).itemsize

    def numpy(self) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = np.empty(self.shape, dtype=self.dtype)
        scale = np.empty(self.shape[0], dtype=np.float32)
        at = 0
        for part in self._parts:
            end = at + part.shape[0]
            self._fill(part, values[at:end], scale[at:end])
            at = end
        self._scale = scale
        return values

    def scale(self) -> FloatArray:
        """int8: one number a row. The engine asks for it next to the weights, so it is rarely computed twice."""
        if self._scale is None:
            self.numpy()
        assert self._scale is not None
        return self._scale

    def to_bytes(self) -> memoryview:
        return self.numpy().reshape(-1).view(np.uint8).data

    def _fill(self, part: Rows, values: npt.NDArray[Any], scale: FloatArray) -> None:
        rows, columns = part.shape
        step = max(1, _BLOCK // columns)
        for start in range(0, rows, step):
            block = self._source.file.rows(part.name, start, min(rows, start + step), columns)
            if self.dtype == "int8":
                values[start : start + step], scale[start : start + step] = quantise_rows(block)
            else:
                values[start : start + step] = block
        if part.paired_heads:
            order = halves_from_pairs(np.arange(rows)[:, None], part.paired_heads)[:, 0]
            values[:] = values[order]
            scale[:] = scale[order]
        self._source.computed(part.name)

    def _to(self, dtype: str) -> Variable:
        raise TypeError(f"these weights are {self.dtype} and stay so, not {dtype}")

    def _equal(self, other: object) -> bool:
        return self is other


class _Scale(Variable):  # type: ignore[misc]
    """The scales of a matrix's rows, known when it has been computed."""

    def __init__(self, matrix: _Matrix) -> None:
        self._matrix = matrix

    @property
    def shape(self) -> list[int]:
        return self._matrix.shape[:1]

    @property
    def dtype(self) -> str:
        return "float32"

    def num_bytes(self) -> int:
        return 4 * self.shape[0]

    def numpy(self) -> FloatArray:
        return self._matrix.scale()

    def to_bytes(self) -> bytes:
        return self.numpy().tobytes()

    def _to(self, dtype: str) -> Variable:
        raise TypeError(f"scales are float32 and stay so, not {dtype}")

    def _equal(self, other: object) -> bool:
        return self is other


def halves_from_pairs(rows: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Undoes llama.cpp's re-ordering: the rows of each head become those of even index, then those of odd index."""
    outputs, inputs = rows.shape
    return rows.reshape(heads, outputs // heads // 2, 2, inputs).swapaxes(1, 2).reshape(outputs, inputs)


def quantise_rows(values: FloatArray) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """int8 weights with one scale per row, such that weight / scale is the value again.

    Source: `ctranslate2.specs.model_spec.LayerSpec._quantize`, whose result this equals bit for bit.
    """
    largest = np.amax(np.absolute(values), axis=1)
    largest[largest == 0] = 127.0
    # Keeps the scale of a row of tiny values within float32.
    largest = np.maximum(largest, np.float32(127) / np.finfo(np.float32).max)
    scale = (127.0 / largest).astype(np.float32)
    return np.rint(values * scale[:, None]).astype(np.int8), scale
