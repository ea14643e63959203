"""The header of a GGUF file: what is said wrongly there is named, and costs nothing."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from headrace.models.errors import BadGguf, UnsupportedModel
from headrace.models.gguf_file import GgufFile
from headrace.models.gguf_shape import read_shape
from headrace.models.shape_of_gguf import shape_of_gguf
from tests.models.test_gguf_import import convert
from tests.models.tiny_gguf import TinyLlama

HUGE = (1 << 40, 1 << 62, (1 << 64) - 1)


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def header(
    *, tensors: int = 0, pairs: int = 0, version: int = 3, body: bytes = b"", tail: bytes = b""
) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + body + tail


def tensor(name: str = "t", shape: tuple[int, ...] = (4,), kind: int = 0, offset: int = 0) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dimensions + struct.pack("<IQ", kind, offset)


def opened(tmp_path: Path, data: bytes) -> GgufFile:
    (tmp_path / "x.gguf").write_bytes(data)
    return GgufFile(tmp_path / "x.gguf")


def test_values_of_all_types(tmp_path: Path) -> None:
    """Numbers of each width, truth, texts and lists come back as they were written."""
    values: list[tuple[int, bytes, Any]] = [
        (0, struct.pack("<B", 200), 200),
        (1, struct.pack("<b", -3), -3),
        (2, struct.pack("<H", 60_000), 60_000),
        (3, struct.pack("<h", -300), -300),
        (4, struct.pack("<I", 1 << 31), 1 << 31),
        (5, struct.pack("<i", -(1 << 31)), -(1 << 31)),
        (6, struct.pack("<f", 0.5), 0.5),
        (7, b"\x01", True),
        (8, text("wörd"), "wörd"),
        (9, struct.pack("<IQ", 8, 2) + text("a") + text(""), ["a", ""]),
        (9, struct.pack("<IQ", 7, 2) + b"\x00\x01", [False, True]),
        (9, struct.pack("<IQ2i", 5, 2, -1, 7), [-1, 7]),
        (10, struct.pack("<Q", 1 << 63), 1 << 63),
        (11, struct.pack("<q", -1), -1),
        (12, struct.pack("<d", 0.1), 0.1),
    ]
    body = b"".join(
        text(f"k{i}") + struct.pack("<I", kind) + data for i, (kind, data, _) in enumerate(values)
    )
    file = opened(tmp_path, header(pairs=len(values), body=body))
    for i, (_, _, value) in enumerate(values):
        assert file.get(f"k{i}", type(value)) == value


@pytest.mark.parametrize("count", HUGE)
def test_counts_beyond_the_files_end(tmp_path: Path, count: int) -> None:
    """Of tensors, pairs, characters, items: what cannot be there is not waited for, nor is room made for it."""
    long = struct.pack("<Q", count)
    pair = text("k")
    for data in (
        header(tensors=count),
        header(pairs=count),
        header(pairs=1, body=long + b"k", tail=bytes(64)),
        header(pairs=1, body=pair + struct.pack("<I", 8) + long, tail=bytes(64)),
        *(
            header(pairs=1, body=pair + struct.pack("<II", 9, kind) + long, tail=bytes(64))
            for kind in (0, 7, 8, 12)
        ),
        header(tensors=1, body=tensor(shape=(count,)), tail=bytes(64)),
        header(tensors=1, body=tensor(offset=count), tail=bytes(64)),
    ):
        with pytest.raises(BadGguf, match="damaged or truncated"):
            opened(tmp_path, data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (header(version=4), "version 4; known are 2 and 3"),
        (header(version=3 << 24), "little-endian"),
        (
            header(pairs=2, body=2 * (text("k") + struct.pack("<IB", 0, 1)), tail=bytes(64)),
            "its metadata has 'k' twice",
        ),
        (header(pairs=1, body=text("k") + struct.pack("<I", 77), tail=bytes(64)), "unknown type 77"),
        (
            header(pairs=1, body=text("k") + struct.pack("<IIQ", 9, 9, 1), tail=bytes(64)),
            "an array of arrays",
        ),
        (header(tensors=2, body=2 * tensor(), tail=bytes(64)), "tensor 't' twice"),
        (header(tensors=1, body=tensor(shape=()), tail=bytes(64)), "'t' has 0 dimensions"),
        (header(tensors=1, body=tensor(shape=(1,) * 5), tail=bytes(64)), "'t' has 5 dimensions"),
        (header(tensors=1, body=tensor(shape=(0,)), tail=bytes(64)), "'t' is of shape"),
        (header(tensors=1, body=tensor(shape=(33,), kind=8), tail=bytes(64)), "in blocks of 32"),
        (
            header(
                pairs=1, body=text("general.alignment") + struct.pack("<II", 4, 0), tail=bytes(64)
            ),
            "'general.alignment' is 0",
        ),
        (header(pairs=1, body=struct.pack("<Q", 1) + b"\xff", tail=bytes(64)), "no UTF-8"),
    ],
)  # fmt: skip
def test_what_is_said_wrongly_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    """The reason, not only that there is one."""
    with pytest.raises(BadGguf) as caught:
        opened(tmp_path, data)
    assert words in caught.value.reason


def test_a_tensor_of_a_type_that_came_later(tmp_path: Path) -> None:
    """Sound, maybe, but not for us: the tensor and its type are named."""
    with pytest.raises(UnsupportedModel, match="'t' is of the unknown type 999"):
        opened(tmp_path, header(tensors=1, body=tensor(kind=999), tail=bytes(64)))


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"llama__block_count": 1 << 31}, "'llama.block_count' is 2147483648, and it has 20 tensors"),
        ({"llama__attention__head_count": 1 << 30, "llama__attention__key_length": 16}, "as wide as"),
        ({"llama__feed_forward_length": 1 << 31}, "is of shape"),
        ({"llama__rope__freq_base": float("nan")}, "'llama.rope.freq_base' is nan"),
        ({"llama__rope__freq_base": 0.0}, "'llama.rope.freq_base' is 0.0"),
        ({"llama__attention__layer_norm_rms_epsilon": float("inf")}, "epsilon"),
    ],
)
def test_numbers_that_no_network_has(tmp_path: Path, metadata: dict[str, Any], reason: str) -> None:
    """Nothing is made as large as a damaged number says."""
    path = TinyLlama.random().write(tmp_path / "x.gguf", **metadata)
    shape_of_gguf(path)
    with pytest.raises((BadGguf, UnsupportedModel)) as caught:
        convert(path, tmp_path / "model")
    assert reason in str(caught.value)


def test_the_shape_is_read_of_a_sound_file(tmp_path: Path) -> None:
    """The checks let it through."""
    shape = read_shape(GgufFile(TinyLlama.random().write(tmp_path / "x.gguf")))
    assert (shape.layers, shape.heads, shape.kv_heads) == (2, 4, 2)
