"""Makes `quantised.npz`: rows of random numbers as llama.cpp stores them in each of its formats, and as it reads them.

python -m tests.models.references.make_quantised

Needs the package cyllama, which has llama.cpp's quantisers. llama.cpp makes one tiny model each format's, and of each
of these one of float32 again: what that has is what llama.cpp reads.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import cyllama.llama.llama_cpp as llama
import gguf
import numpy as np

from tests.models.references.reference import FOLDER
from tests.models.tiny_gguf import TinyLlama

QUANTISED = FOLDER / "quantised.npz"
_TENSOR = "blk.0.ffn_up.weight"
_ROWS = 2
_FORMATS = {
    "F16": 1,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q8_0": 7,
    "Q5_0": 8,
    "Q5_1": 9,
    "BF16": 32,
    "Q2_K": 10,
    "Q3_K": 12,
    "Q4_K": 15,
    "Q5_K": 17,
    "Q6_K": 18,
    "IQ4_NL": 25,
    "IQ3_S": 26,
    "IQ4_XS": 30,
    "TQ1_0": 36,
    "TQ2_0": 37,
    "MXFP4": 38,
}
"""llama.cpp's numbers for files of a format. Those that need a sample of text to quantise with are left out."""
_FLOAT32 = 0


def _quantise(source: Path, target: Path, number: int) -> None:
    options = llama.LlamaModelQuantizeParams()
    options.ftype = number
    options.pure = options.allow_requantize = True
    options.nthread = 1
    llama.model_quantize(str(source), str(target), options)


def _rows(path: Path) -> gguf.gguf_reader.ReaderTensor:
    return next(tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name == _TENSOR)


def main() -> None:
    llama.ggml_backend_load_all()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        plain, stored, back = (Path(scratch) / f"{name}.gguf" for name in ("plain", "stored", "back"))
        TinyLlama.random(heads=4, kv_heads=4, layers=1, inner=256, head_dim=64).write(plain)
        for name, number in _FORMATS.items():
            _quantise(plain, stored, number)
            _quantise(stored, back, _FLOAT32)
            rows = _rows(stored)
            assert rows.tensor_type.name == name
            found[f"{name} stored"] = np.array(rows.data[:_ROWS]).view(np.uint8)
            found[f"{name} read"] = np.array(_rows(back).data[:_ROWS])
    np.savez_compressed(QUANTISED, **found)


if __name__ == "__main__":
    main()
