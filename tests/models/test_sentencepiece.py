"""SentencePiece models, against what SentencePiece itself made of tricky texts (`references/pieces`)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from headrace.models.character_map import CharacterMap
from headrace.models.errors import BadTokeniser
from headrace.models.sentencepiece import PieceModel, tokeniser_of
from headrace.models.sentencepiece_file import read_piece_model
from headrace.models.tokeniser import Tokeniser
from tests.models.references.reference import FOLDER

PIECES = FOLDER / "pieces"
NAMES = sorted(path.name.removesuffix(".model.gz") for path in PIECES.glob("*.model.gz"))


def read_model(name: str, folder: Path) -> PieceModel:
    path = folder / f"{name}.model"
    path.write_bytes(gzip.decompress((PIECES / f"{name}.model.gz").read_bytes()))
    return read_piece_model(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PieceModel]:
    folder = tmp_path_factory.mktemp("pieces")
    return {name: read_model(name, folder) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_texts_become_sentencepieces_own_tokens(models: dict[str, PieceModel], name: str) -> None:
    """Marks in any number and order, Hangul in parts, CR LF, runs of spaces, the makers' own tokens in the middle."""
    tokeniser = Tokeniser(tokeniser_of(models[name]))
    texts = json.loads((PIECES / f"{name}.json").read_text())
    assert len(texts) > 150
    assert [(text, tokeniser.encode(text)) for text, _ in texts] == [tuple(pair) for pair in texts]


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_tokeniser_is_the_same(models: dict[str, PieceModel], name: str, tmp_path: Path) -> None:
    """What is written to a model's folder has the rules for texts, too."""
    tokeniser_of(models[name]).save(str(tmp_path / "tokenizer.json"))
    tokeniser = Tokeniser(Tokenizer.from_file(str(tmp_path / "tokenizer.json")))
    for text, ids in json.loads((PIECES / f"{name}.json").read_text()):
        assert tokeniser.encode(text) == ids


@pytest.fixture(scope="module")
def characters(models: dict[str, PieceModel]) -> CharacterMap:
    return CharacterMap(models["bpe"].charsmap, kept=("<table>", "\u00c5b"))


@given(text=st.text())
def test_characters_are_replaced_from_left_to_right(characters: CharacterMap, text: str) -> None:
    """The fast search for places gives what trying the longest key at each place gives."""
    slow, at = "", 0
    while at < len(text):
        length, replacement = characters._found_at(text, at) or (1, text[at])
        slow += replacement
        at += length
    assert characters.apply(text) == slow


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (b"\x01", "shorter than it says"),
        (b"\x00\x04\x00\x00" + bytes(40), "shorter than it says"),
        (b"\x03\x00\x00\x00abc", "shorter than it says"),
        (b"\x04\x00\x00\x00" + bytes(4) + b"text", "ends within a text"),
    ],
)
def test_damaged_tables_are_refused(table: bytes, words: str) -> None:
    """Lengths that contradict one another are named."""
    with pytest.raises(ValueError, match=words):
        CharacterMap(table)


def test_a_table_that_goes_in_circles_is_refused() -> None:
    """Every byte leads back to the start: without a limit the keys would be endless."""
    units = [byte << 10 | byte for byte in range(256)]
    table = (1024).to_bytes(4, "little") + b"".join(unit.to_bytes(4, "little") for unit in units) + b"\0"
    with pytest.raises(ValueError, match="circles"):
        CharacterMap(table)


def test_a_damaged_table_in_a_model_is_named(models: dict[str, PieceModel], tmp_path: Path) -> None:
    """The file is at fault, and nothing is made of it."""
    data = gzip.decompress((PIECES / "bpe.model.gz").read_bytes())
    table = models["bpe"].charsmap
    path = tmp_path / "tokenizer.model"
    path.write_bytes(data.replace(table, b"\xff" * 4 + table[4:]))
    with pytest.raises(BadTokeniser, match="damaged"):
        read_piece_model(path)
