"""Importing a BERT: what is damaged or of another kind is refused by name, and leaves no model behind."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordPiece

from headrace.models.bert_import import import_bert
from headrace.models.errors import BadModelFile, ModelError, UnsupportedModel
from headrace.models.manifest import Manifest
from headrace.models.safetensors_file import SafetensorsFile
from headrace.models.store import ModelStore

WIDTH, INNER, LAYERS = 16, 32, 1
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##b"]
CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "vocab_size": len(TOKENS),
    "max_position_embeddings": 12,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}


def write_safetensors(path: Path, tensors: dict[str, Any]) -> None:
    """The format by hand."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at, bodies = 0, []
    for name, tensor in tensors.items():
        body = tensor.tobytes()
        kind = {"float32": "F32", "float16": "F16", "uint16": "BF16"}[tensor.dtype.name]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [at, at + len(body)]}
        bodies.append(body)
        at += len(body)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(bodies))


def weights() -> dict[str, Any]:
    rng = np.random.default_rng(5)
    names: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(TOKENS), WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.position_embeddings.weight": (12, WIDTH),
    }
    layer = "encoder.layer.0."
    linears = {
        **{f"{layer}attention.self.{part}": (WIDTH, WIDTH) for part in ("query", "key", "value")},
        f"{layer}attention.output.dense": (WIDTH, WIDTH),
        f"{layer}intermediate.dense": (INNER, WIDTH),
        f"{layer}output.dense": (WIDTH, INNER),
    }
    for name, shape in linears.items():
        names |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in ("embeddings.LayerNorm", f"{layer}attention.output.LayerNorm", f"{layer}output.LayerNorm"):
        names |= {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in names.items()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A sound one."""
    folder = tmp_path / "source"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    modules = [{"type": "sentence_transformers.models.Transformer"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    tokenizer = Tokenizer(WordPiece({token: i for i, token in enumerate(TOKENS)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in TOKENS[:4]])
    tokenizer.enable_truncation(8)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_safetensors(folder / "model.safetensors", weights())
    return folder


def imported(source: Path, store: ModelStore) -> Manifest:
    def build(folder: Path) -> Manifest:
        return import_bert(
            source, folder, name="b", source="test", licence="none", progress=lambda done, total: None
        )

    return store.install("b", build).manifest


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    (tmp_path / "models").mkdir()
    return ModelStore(tmp_path / "models")


def test_what_the_files_say_is_in_the_manifest(source: Path, store: ModelStore) -> None:
    """Pooling by the first token, vectors as they are, as many positions as there are."""
    manifest = imported(source, store)
    assert (manifest.pooling, manifest.normalise, manifest.context_length) == ("first", False, 12)
    assert manifest.parameters == sum(tensor.size for tensor in weights().values())


def config(**changes: Any) -> Callable[[Path], None]:
    return written("config.json", json.dumps(CONFIG | changes))


def tensors(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        made = {name: tensor for name, tensor in (weights() | changes).items() if tensor is not None}
        write_safetensors(folder / "model.safetensors", made)

    return change


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def written(name: str, content: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(content)

    return change


QUERY = "encoder.layer.0.attention.self.query.weight"
BAD: list[tuple[str, Callable[[Path], None], type[ModelError], str]] = [
    ("another kind", config(model_type="roberta"), UnsupportedModel, "'roberta', not bert"),
    ("relative", config(position_embedding_type="relative_key"), UnsupportedModel, "positions are relative"),
    ("activation", config(hidden_act="mish"), UnsupportedModel, "'mish'"),
    ("lacking", config(layer_norm_eps=None), UnsupportedModel, "config.json lacks"),
    ("vocabulary", config(vocab_size=7), UnsupportedModel, "has 6 tokens, its weights are for 7"),
    ("no config", lambda folder: (folder / "config.json").unlink(), UnsupportedModel, "config.json"),
    ("truncated", truncated, BadModelFile, "ends behind the file's end"),
    ("missing", tensors(**{QUERY: None}), BadModelFile, f"it has no tensor {QUERY}"),
    ("shape", tensors(**{QUERY: np.zeros((2, 2), np.float32)}), BadModelFile, r"the shape \[2, 2\]"),
    ("no safetensors", written("model.safetensors", "GGUF"), BadModelFile, "no safetensors file"),
    ("header", written("model.safetensors", "\2" + "\0" * 7 + "{]"), BadModelFile, "header cannot be read"),
    ("pooling", written("1_Pooling/config.json", "{}"), UnsupportedModel, "nothing known"),
    ("step", written("modules.json", '[{"type": "x.Dense"}]'), UnsupportedModel, "the further step Dense"),
]


@pytest.mark.parametrize(
    ("damage", "error", "says"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_what_is_not_one_is_refused(
    source: Path, store: ModelStore, damage: Callable[[Path], None], error: type[ModelError], says: str
) -> None:
    """By name, and nothing is left in the store."""
    damage(source)
    with pytest.raises(error, match=says):
        imported(source, store)
    assert not store.names()


def test_halves_are_read_as_floats(tmp_path: Path) -> None:
    """Both kinds of 16 bits."""
    numbers = np.array([[1.5, -2.0, 0.25]], np.float32)
    upper = (numbers.view("<u4") >> 16).astype("<u2")
    write_safetensors(tmp_path / "f", {"half": numbers.astype(np.float16), "brain": upper})
    file = SafetensorsFile(tmp_path / "f")
    assert (file.tensor("half", (1, 3)) == numbers).all()
    assert (file.tensor("brain", (1, 3)) == numbers).all()
