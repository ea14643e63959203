"""Files with random damage: each is refused with an error of ours or is still sound; none is slow or takes much memory.

The damage is that of a generator with a fixed seed: cut, longer, other bits, large numbers in a length's place; in
JSON, values of other kinds.
"""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from headrace.contract.errors import HeadraceError
from headrace.models.gguf_import import import_gguf
from headrace.models.safetensors_file import SafetensorsFile
from headrace.models.shape_of_gguf import shape_of_gguf
from headrace.models.tokeniser_check import check_tokeniser
from headrace.models.tokeniser_files import read_tokeniser
from tests.models.references.reference import FOLDER
from tests.models.test_bert_import import weights, write_safetensors

LARGE = [b"\xff" * 8, bytes(8), (1 << 62).to_bytes(8, "little"), (1 << 40).to_bytes(8, "little")]
ODD: list[Any] = [
    None,
    -1,
    0,
    2**31,
    2**70,
    1.5,
    1e308,
    float("nan"),
    "",
    "x",
    "9" * 5000,
    [],
    {},
    [[]],
    True,
]
MOST_BYTES = 64 << 20
"""Of Python's and numpy's own memory. The files have some 100 kB, their tables some MB once read."""


def harm(data: bytes, dice: random.Random) -> bytes:
    if data[:1] == b"{" and dice.random() < 0.7:
        return harm_json(data, dice)
    found = bytearray(data)
    for _ in range(dice.choice([1, 1, 2, 8])):
        at = dice.randrange(max(1, min(len(found), 6_000 if dice.random() < 0.7 else 1 << 30)))
        match dice.randrange(6):
            case 0:
                found[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                found[at : at + 8] = dice.choice(LARGE)
            case 2:
                del found[at:]
            case 3:
                del found[at : at + dice.choice([1, 4, 8])]
            case 4:
                found[at:at] = dice.randbytes(dice.choice([1, 4, 8]))
            case _:
                found[at : at + 16] = found[dice.randrange(len(found) + 1) :][:16]
    return bytes(found)


def harm_json(data: bytes, dice: random.Random) -> bytes:
    document = json.loads(data)
    for _ in range(dice.choice([1, 1, 2])):
        places: list[tuple[Any, Any]] = []
        waiting: list[Any] = [document]
        while waiting:
            value = waiting.pop()
            keys = list(value) if isinstance(value, dict) else list(range(len(value)))
            for key in dice.sample(keys, min(len(keys), 40)):
                places.append((value, key))
                if isinstance(value[key], dict | list):
                    waiting.append(value[key])
        if places:
            value, key = dice.choice(places)
            value[key] = dice.choice(ODD)
    return json.dumps(document).encode()


def check(read: Callable[[Path], object], source: bytes, path: Path, times: int) -> int:
    """How many of the harmed files were refused."""
    dice = random.Random(20261129)
    refused = 0
    tracemalloc.start()
    try:
        for _ in range(times):
            path.write_bytes(harm(source, dice))
            try:
                read(path)
            except HeadraceError:
                refused += 1
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    return refused


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_gguf_files(tmp_path: Path, name: str) -> None:
    """Imported, and looked at by `headrace plan`."""

    def read(path: Path) -> None:
        shape_of_gguf(path)
        import_gguf(
            path, tmp_path, name="x", source="test", licence="none", progress=lambda done, total: None
        )

    source = (FOLDER / name / "model.gguf").read_bytes()
    assert check(read, source, tmp_path / "x.gguf", 20) > 5


def test_safetensors_files(tmp_path: Path) -> None:
    """All tensors read."""

    def read(path: Path) -> None:
        file = SafetensorsFile(path)
        for name in file.names:
            file.tensor(name, file.shape(name))

    write_safetensors(tmp_path / "sound", weights())
    source = (tmp_path / "sound").read_bytes()
    length = int.from_bytes(source[:8], "little")
    assert check(read, source, tmp_path / "bytes", 60) > 15

    def read_header(path: Path) -> None:
        header = path.read_bytes()
        path.write_bytes(len(header).to_bytes(8, "little") + header + source[8 + length :])
        read(path)

    assert check(read_header, source[8 : 8 + length], tmp_path / "header", 60) > 15


def test_sentencepiece_models(tmp_path: Path) -> None:
    """Read, and made into a tokeniser."""

    def read(path: Path) -> None:
        read_tokeniser(path.parent, 400)

    source = gzip.decompress((FOLDER / "pieces/bpe.model.gz").read_bytes())
    assert check(read, source, tmp_path / "tokenizer.model", 12) > 2


@pytest.mark.parametrize("name", ["bloom", "t5", "bert"])
def test_tokenizer_json(tmp_path: Path, name: str) -> None:
    """Read as a checkpoint's."""
    source = (FOLDER / name / "tokenizer.json").read_bytes()
    size = json.loads((FOLDER / name / "manifest.json").read_text())["vocab_size"]
    assert check(lambda path: read_tokeniser(path.parent, size), source, tmp_path / "tokenizer.json", 40) > 10


def test_what_is_nested_too_deeply(tmp_path: Path) -> None:
    """A JSON file of nothing but brackets is refused as one that cannot be read."""
    (tmp_path / "tokenizer.json").write_bytes(b"[" * 200_000)
    with pytest.raises(HeadraceError, match="cannot be read"):
        read_tokeniser(tmp_path, 100)
    header = b"[" * 200_000
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(HeadraceError, match="header cannot be read"):
        SafetensorsFile(tmp_path / "x.safetensors")


@pytest.mark.parametrize("token_id", [1 << 31, 1 << 40, -1, 1.5, "7"])
@pytest.mark.parametrize("added", [True, False])
def test_an_id_that_no_token_has(tmp_path: Path, token_id: Any, added: bool) -> None:
    """The library would make room for all ids up to it, and end the process."""
    document = json.loads((FOLDER / "bloom/tokenizer.json").read_text())
    if added:
        document["added_tokens"][0]["id"] = token_id
    else:
        document["model"]["vocab"]["a"] = token_id
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(HeadraceError, match="no whole number below 4194304"):
        read_tokeniser(tmp_path, 320)


def test_a_tokeniser_that_cannot_tokenise() -> None:
    """A vocabulary without a token for what it does not know is found before it is used."""
    with pytest.raises(ValueError, match="it cannot be used"):
        check_tokeniser(Tokenizer(WordPiece({"a": 0, "b": 1}, unk_token="[UNK]")))
