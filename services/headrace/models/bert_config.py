"""What the files of a BERT that embeds say of it: its shape, its vocabulary, and how tokens' vectors become one.

Raises UnsupportedModel for whatever would be computed wrongly or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctranslate2 import specs
from tokenizers import Tokenizer

from headrace.models.errors import UnsupportedModel
from headrace.models.json_file import load_json
from headrace.models.manifest import Pooling
from headrace.models.tokeniser_check import check_tokeniser, load_tokenizer

START, END, UNKNOWN = "[CLS]", "[SEP]", "[UNK]"
_ACTIVATIONS = {
    "gelu": specs.Activation.GELU,
    "gelu_new": specs.Activation.GELUTanh,
    "relu": specs.Activation.RELU,
}
_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BertShape:
    """What the configuration says."""

    layers: int
    heads: int
    width: int
    inner: int
    vocabulary: int
    positions: int
    types: int
    activation: Any
    epsilon: float


def read_json(path: Path, name: str) -> dict[str, Any]:
    """The object in a file."""
    found = _read(path, name)
    if not isinstance(found, dict):
        raise UnsupportedModel(name, f"{path.name} is no JSON object")
    return found


def _read(path: Path, name: str) -> Any:
    try:
        return load_json(path)
    except (OSError, ValueError) as error:
        raise UnsupportedModel(name, f"{path.name} is missing or cannot be read") from error


def read_shape(config: dict[str, Any], name: str) -> BertShape:
    """From `config.json`."""
    if config.get("model_type") != "bert":
        raise UnsupportedModel(name, f"its model_type is {config.get('model_type')!r}, not bert")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise UnsupportedModel(name, "its positions are relative")
    if not isinstance(config.get("hidden_act"), str) or config["hidden_act"] not in _ACTIVATIONS:
        raise UnsupportedModel(name, f"its activation is {config.get('hidden_act')!r}")
    try:
        shape = BertShape(
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            width=int(config["hidden_size"]),
            inner=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            positions=int(config["max_position_embeddings"]),
            types=int(config["type_vocab_size"]),
            activation=_ACTIVATIONS[config["hidden_act"]],
            epsilon=float(config["layer_norm_eps"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UnsupportedModel(name, f"config.json lacks {error}") from error
    for field in ("layers", "heads", "width", "inner", "vocabulary", "positions", "types"):
        if (value := getattr(shape, field)) < 1:
            raise UnsupportedModel(name, f"config.json says that its {field} are {value}")
    if shape.width % shape.heads or not 0 <= shape.epsilon < 1:
        raise UnsupportedModel(name, "the numbers in config.json do not fit together")
    return shape


def read_pooling(folder: Path, name: str) -> tuple[Pooling, bool]:
    """How the tokens' vectors become one, and whether that is scaled; by default their mean, as it is."""
    pooling: Pooling = "mean"
    if (path := folder / "1_Pooling" / "config.json").exists():
        config = read_json(path, name)
        chosen = [word for mode, word in _POOLINGS.items() if config.get(mode)]
        others = [mode for mode, on in config.items() if mode.startswith("pooling_mode_") and on is True]
        if len(chosen) != 1 or len(others) != 1:
            raise UnsupportedModel(name, f"it pools by {', '.join(others) or 'nothing known'}")
        pooling = chosen[0]
    modules = _read(path, name) if (path := folder / "modules.json").exists() else []
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise UnsupportedModel(name, "modules.json is no list of modules")
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if unknown := [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]:
        raise UnsupportedModel(name, f"it has the further step {unknown[0]}")
    return pooling, "Normalize" in kinds


def read_context(folder: Path, shape: BertShape, name: str) -> int:
    """As its makers set it, at most what it has positions for."""
    path = folder / "sentence_bert_config.json"
    told = read_json(path, name).get("max_seq_length") if path.exists() else None
    return min(shape.positions, told) if isinstance(told, int) and told > 0 else shape.positions


def read_tokenizer(path: Path, name: str, shape: BertShape) -> Tokenizer:
    """That of the model, without what it would cut off or fill up."""
    try:
        tokenizer = load_tokenizer(path)
    except (OSError, ValueError) as error:
        raise UnsupportedModel(name, "tokenizer.json is missing or cannot be read") from error
    # What is too long is refused, and what is short is not filled up.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if (size := tokenizer.get_vocab_size(with_added_tokens=True)) != shape.vocabulary:
        raise UnsupportedModel(
            name, f"its vocabulary has {size} tokens, its weights are for {shape.vocabulary}"
        )
    try:
        check_tokeniser(tokenizer)
    except ValueError as error:
        raise UnsupportedModel(name, f"tokenizer.json is damaged: {error}") from error
    for token in (START, END, UNKNOWN):
        if tokenizer.token_to_id(token) is None:
            raise UnsupportedModel(name, f"its vocabulary has no {token}")
    return tokenizer
