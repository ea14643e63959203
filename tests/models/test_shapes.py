"""The shape of a network, wherever it comes from."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from headrace.models.engine_file import MODEL_NAME, read_engine_file
from headrace.models.errors import BadGguf, BadModelFile, UnsupportedModel
from headrace.models.fake import install_fake_model
from headrace.models.memory import kv_bytes_per_token
from headrace.models.shape_of_checkpoint import shape_of_checkpoint
from headrace.models.shape_of_ctranslate2 import shape_of_folder, shape_of_manifest, shape_of_stored
from headrace.models.shape_of_gguf import shape_of_gguf
from headrace.models.store import ModelStore, StoredModel
from headrace.models.typical_shapes import parse_count, typical_shape
from tests.models.tiny_gguf import TOKENS, TinyLlama
from tests.worker.tiny_model import CONTEXT, install_tiny_model

LLAMA_7B = {
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32_000,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}


@pytest.fixture
def tiny(tmp_path: Path) -> StoredModel:
    """2 layers of 4 heads of 16, the inner part of 96."""
    (tmp_path / "models").mkdir()
    return install_tiny_model(ModelStore(tmp_path / "models"))


def checkpoint(folder: Path, **changes: Any) -> Path:
    """A folder with such a config.json; None takes a number out."""
    config = {key: value for key, value in (LLAMA_7B | changes).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_stored_model_and_the_gguf_it_came_from_have_one_shape(tiny: StoredModel, tmp_path: Path) -> None:
    """By the arrays of the one and the metadata of the other."""
    stored = shape_of_stored(tiny)
    assert (stored.layers, stored.width, stored.inner, stored.heads, stored.head_dim) == (2, 64, 96, 4, 16)
    assert (stored.vocabulary, stored.context_length) == (len(TOKENS), CONTEXT)
    assert (stored.stored, stored.parameters) == ("float32", tiny.manifest.parameters)
    path = tmp_path / "tiny.gguf"
    TinyLlama.random().write(path, llama__context_length=CONTEXT)
    found = shape_of_gguf(path)
    for name in (
        "layers",
        "width",
        "inner",
        "heads",
        "head_dim",
        "vocabulary",
        "parameters",
        "context_length",
    ):
        assert getattr(found, name) == getattr(stored, name)


def test_a_folder_of_the_engine_says_all_but_the_context(tiny: StoredModel) -> None:
    """It needs no manifest."""
    found = shape_of_folder(tiny.path)
    assert found.context_length == 0
    assert found.parameters == tiny.manifest.parameters


def test_a_manifest_alone_gives_nearly_the_same(tiny: StoredModel) -> None:
    """For a model whose files are elsewhere: what memory depends on most is exact."""
    found, exact = shape_of_manifest(tiny.manifest), shape_of_stored(tiny)
    assert (found.layers, found.heads, found.head_dim, found.parameters) == (
        exact.layers,
        exact.heads,
        exact.head_dim,
        exact.parameters,
    )
    assert found.width == exact.width


def test_a_model_without_a_network_is_refused(tmp_path: Path) -> None:
    """The fake one has no weights."""
    fake = install_fake_model(ModelStore(tmp_path))
    with pytest.raises(UnsupportedModel, match="no weights"):
        shape_of_stored(fake)
    with pytest.raises(UnsupportedModel, match="how large"):
        shape_of_manifest(fake.manifest)


@pytest.mark.parametrize("kept", [0, 3, 4, 60, 2000])
def test_a_truncated_model_file_is_told(tiny: StoredModel, tmp_path: Path, kept: int) -> None:
    """Wherever it ends, before anything is read of its weights."""
    whole = (tiny.path / MODEL_NAME).read_bytes()
    cut = tmp_path / MODEL_NAME
    cut.write_bytes(whole[:kept])
    with pytest.raises(BadModelFile, match="truncated"):
        read_engine_file(tmp_path)


@pytest.mark.parametrize("content", [b"GGUF" + bytes(60), b"\xff" * 64, struct.pack("<I", 6) + b"\xff" * 64])
def test_another_file_is_no_model_file(tmp_path: Path, content: bytes) -> None:
    """It is told as such, and nothing of its supposed size is made."""
    (tmp_path / MODEL_NAME).write_bytes(content)
    with pytest.raises(BadModelFile):
        shape_of_folder(tmp_path)


def test_a_checkpoints_parameters_follow_from_its_configuration(tmp_path: Path) -> None:
    """Those of Llama 2 7B, which has 6,738,415,616 with its norms."""
    found = shape_of_checkpoint(checkpoint(tmp_path))
    assert found.parameters == pytest.approx(6_738_415_616, rel=0.001)
    assert (found.inner, found.head_dim, found.context_length) == (11_008, 128, 4096)
    assert "no safetensors" in found.assumed
    tied = shape_of_checkpoint(checkpoint(tmp_path, tie_word_embeddings=True))
    assert found.parameters - tied.parameters == 32_000 * 4096


def test_or_are_counted_in_its_safetensors(tmp_path: Path) -> None:
    """By their headers: the numbers themselves are not read."""
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "F16", "shape": [3, 5], "data_offsets": [0, 30]},
            "b": {"dtype": "F16", "shape": [7], "data_offsets": [30, 44]},
        }
    ).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    found = shape_of_checkpoint(checkpoint(tmp_path))
    assert (found.parameters, found.assumed) == (22, "")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"num_hidden_layers": "32"}, "num_hidden_layers is '32'"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"vocab_size": True}, "vocab_size is True"),
    ],
)
def test_a_configuration_that_lacks_a_number_is_told(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    """By its name."""
    with pytest.raises((BadModelFile, UnsupportedModel), match=told):
        shape_of_checkpoint(checkpoint(tmp_path, **changes))


def test_damaged_safetensors_are_told(tmp_path: Path) -> None:
    """An absurd length of the header too: nothing is read into memory."""
    checkpoint(tmp_path)
    for content in (b"", b"\xff" * 8, struct.pack("<Q", 4) + b"nope", struct.pack("<Q", 2) + b"[]"):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(BadModelFile, match="safetensors"):
            shape_of_checkpoint(tmp_path)


def test_a_gguf_without_layers_is_told(tmp_path: Path) -> None:
    """Metadata that would make a plan for nothing."""
    path = tmp_path / "tiny.gguf"
    TinyLlama.random().write(path, llama__block_count=0)
    with pytest.raises(BadGguf, match=r"llama\.block_count' is 0"):
        shape_of_gguf(path)


def test_numbers_of_parameters() -> None:
    """With their unit, and within reason."""
    assert parse_count("7B") == 7_000_000_000
    assert parse_count("0.5b") == 500_000_000
    assert parse_count("135M") == 135_000_000
    assert parse_count("smollm2") is None
    assert parse_count("7") is None
    for absurd in ("0B", "99T"):
        with pytest.raises(ValueError, match="1M to 10T"):
            parse_count(absurd)


def test_a_typical_shape_is_that_of_a_known_model_of_the_size() -> None:
    """And says that it is assumed."""
    found = typical_shape(7_000_000_000)
    assert (found.layers, found.width, found.heads) == (32, 4096, 32)
    assert found.parameters == 7_000_000_000
    assert "32 layers of 4096" in found.assumed
    kept = [kv_bytes_per_token(typical_shape(count * 10**9), "int8") for count in (100, 200, 400)]
    assert kept == sorted(kept)
