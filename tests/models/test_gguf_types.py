"""Tensors in the formats of GGUF, against what llama.cpp stored and read (`references/quantised.npz`)."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from headrace.models.errors import BadGguf
from headrace.models.gguf_file import GgufFile
from tests.models.references.reference import FOLDER

with np.load(FOLDER / "quantised.npz") as arrays:
    STORED = {name.split()[0]: arrays[name] for name in arrays.files if name.endswith("stored")}
    READ = {name.split()[0]: arrays[name] for name in arrays.files if name.endswith("read")}


def write_tensor(path: Path, kind: str) -> GgufFile:
    """A file with one tensor, "rows", of the stored bytes."""
    writer = gguf.GGUFWriter(path, "test")
    writer.add_tensor("rows", STORED[kind], raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GgufFile(path)


def test_the_common_types_are_among_them() -> None:
    """All that files are usually quantised to."""
    common = "F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS"
    assert set(common.split()) <= set(STORED)


@pytest.mark.parametrize("kind", sorted(STORED))
def test_numbers_are_those_that_llama_cpp_reads(tmp_path: Path, kind: str) -> None:
    """Bit for bit, read as a whole and row by row."""
    file = write_tensor(tmp_path / "x.gguf", kind)
    expected = READ[kind]
    assert np.array_equal(file.tensor("rows", expected.shape), expected)
    for row in range(len(expected)):
        assert np.array_equal(file.rows("rows", row, row + 1, expected.shape[1])[0], expected[row])


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_K"])
def test_what_is_no_number_is_damage(tmp_path: Path, kind: str) -> None:
    """A scale or a weight that is not finite: the tensor is named."""
    write_tensor(tmp_path / "x.gguf", kind)
    data = (tmp_path / "x.gguf").read_bytes()
    at = data.index(STORED[kind].tobytes()[:32])
    (tmp_path / "x.gguf").write_bytes(data[:at] + b"\x00\x7e" + data[at + 2 :])
    with pytest.raises(BadGguf, match="tensor 'rows' has a value that is no number"):
        GgufFile(tmp_path / "x.gguf").tensor("rows", READ[kind].shape)
