"""The shape of a Hugging Face checkpoint: its `config.json`, and the headers of the safetensors beside it."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from headrace.models.errors import BadModelFile, UnsupportedModel
from headrace.models.network_shape import NetworkShape, count_parameters

CONFIG_FILE = "config.json"

_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
_WIDTH = ("hidden_size", "n_embd", "d_model")
_INNER = ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim")
_HEADS = ("num_attention_heads", "n_head")
_CONTEXT = ("max_position_embeddings", "n_positions", "seq_length", "n_ctx")
"""One number, as different architectures call it."""
_MOST_HEADER_BYTES = 100 << 20
"""Of a safetensors file: the format's own limit."""


def shape_of_checkpoint(folder: Path) -> NetworkShape:
    """That of the checkpoint in `folder`. Whether it can be imported is another question.

    Raises BadModelFile, or UnsupportedModel where the configuration does not say what a decoder has.
    """
    config = _read_config(folder / CONFIG_FILE)
    width, heads = _number(config, _WIDTH, folder), _number(config, _HEADS, folder)
    inner = _number(config, _INNER, folder, 4 * width)
    layers, vocabulary = _number(config, _LAYERS, folder), _number(config, ("vocab_size",), folder)
    head_dim = _number(config, ("head_dim",), folder, max(1, width // heads))
    counted = sum(map(_count_tensors, sorted(folder.glob("*.safetensors"))))
    computed = count_parameters(
        layers=layers,
        width=width,
        inner=inner,
        heads=heads,
        kv_heads=_number(config, ("num_key_value_heads", "num_kv_heads"), folder, heads),
        head_dim=head_dim,
        vocabulary=vocabulary,
    )
    if config.get("tie_word_embeddings"):
        computed -= vocabulary * width
    return NetworkShape(
        layers=layers,
        width=width,
        inner=inner,
        heads=heads,
        head_dim=head_dim,
        vocabulary=vocabulary,
        parameters=counted or computed,
        context_length=_number(config, _CONTEXT, folder, 0),
        assumed=""
        if counted
        else "parameters as of a Llama of that shape: no safetensors are there to count them",
    )


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadModelFile(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise BadModelFile(path, "not JSON") from error
    if not isinstance(config, dict):
        raise BadModelFile(path, "not a model's configuration")
    nested = config.get("text_config")  # of a model that has more than text
    return nested if isinstance(nested, dict) else config


def _number(config: Mapping[str, Any], names: Sequence[str], folder: Path, default: int | None = None) -> int:
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BadModelFile(
                folder / CONFIG_FILE, f"{name} is {value!r}, and must be a whole number above 0"
            )
        return value
    if default is None:
        raise UnsupportedModel(str(folder), f"its {CONFIG_FILE} has no {' or '.join(names)}")
    return default


def _count_tensors(path: Path) -> int:
    """The numbers in a safetensors file, by its header."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MOST_HEADER_BYTES:
                raise BadModelFile(path, "not a safetensors file")
            header = json.loads(file.read(length))
        return sum(prod(one["shape"]) for name, one in header.items() if name != "__metadata__")
    except OSError as error:
        raise BadModelFile(path, error.strerror or str(error)) from error
    except (ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise BadModelFile(path, "not a safetensors file") from error
