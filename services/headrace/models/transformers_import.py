"""A Hugging Face folder into a model folder, by CTranslate2's converter. Needs the extra `convert`.

The vocabulary is ours (`headrace.models.tokeniser_files`), so that engine and tokeniser have the same tokens. What the
converter leaves at the engine's defaults, though a checkpoint may say otherwise, is set afterwards. Memory: the
checkpoint and the converted model, as torch loads a checkpoint whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from headrace.models.checkpoint import Checkpoint, read_checkpoint
from headrace.models.checkpoint_tokens import CheckpointTokens, read_tokens
from headrace.models.errors import BadCheckpoint, MissingExtra, UnsupportedModel
from headrace.models.gguf_tensors import Quantisation, TensorProgress
from headrace.models.manifest import Manifest
from headrace.models.template_check import check_template
from headrace.models.tokeniser import TOKENISER_NAME
from headrace.models.tokeniser_files import read_tokeniser

_QUANTISATION = {"int8": "int8_float32", "float16": "float16", "float32": "float32"}
_EPSILON_KEYS = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps")
_COMPUTED_POSITIONS = ("m2m_100", "marian")
"""Whose positions are not in the checkpoint: in half precision they would be computed with few digits."""
_NOT_USED = ("pooler.", "classifier.", "embeddings.position_ids", "cls.", "lm_head.", "qa_outputs.")
"""Parts of encoders that no embedding needs."""


def import_checkpoint(
    folder: Path,
    into: Path,
    *,
    name: str,
    source: str,
    licence: str,
    progress: TensorProgress,
    quantisation: Quantisation = "int8",
    with_template: bool = True,
) -> Manifest:
    """Converts the checkpoint in `folder` into `into`, and says what it is.

    Raises BadCheckpoint, BadTokeniser, UnsupportedModel, BadTemplate, MissingExtra. All is checked before the weights
    are read.
    """
    checkpoint = read_checkpoint(folder)
    tokenizer = read_tokeniser(folder, checkpoint.vocabulary, checkpoint.model_type)
    tokens = read_tokens(checkpoint, tokenizer)
    if not with_template:
        tokens = dataclasses.replace(tokens, chat_template=None)
    check_template(tokens.chat_template, tokens.bos or "", tokens.ends[0])
    _check_extra(folder)
    with _complaining(folder):
        spec, parameters = _convert(checkpoint, tokenizer, tokens)
        variables = len(spec.variables())
        progress(0, variables)
        spec.validate()
        spec.optimize(quantization=_QUANTISATION[quantisation])
    spec.save(str(into))
    tokenizer.save(str(into / TOKENISER_NAME), pretty=False)
    progress(variables, variables)
    return _manifest(
        checkpoint,
        tokens,
        name=name,
        source=source,
        licence=licence,
        quantisation=quantisation,
        parameters=parameters,
        vocab_size=_vocabulary_size(spec),
    )


def _check_extra(folder: Path) -> None:
    if any(importlib.util.find_spec(module) is None for module in ("torch", "transformers")):
        raise MissingExtra("convert", f"the Hugging Face folder {folder.name}")


def _convert(checkpoint: Checkpoint, tokenizer: Tokenizer, tokens: CheckpointTokens) -> tuple[Any, int]:
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is fetched: all is in the folder
    import torch
    from ctranslate2.converters.transformers import TransformersConverter
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    parameters = 0

    class Converter(TransformersConverter):  # type: ignore[misc]  # the engine's library is untyped
        def load_model(self, model_class: Any, path: str, **options: Any) -> Any:
            nonlocal parameters
            if checkpoint.model_type in _COMPUTED_POSITIONS:
                options["dtype"] = torch.float32
            model, info = model_class.from_pretrained(path, output_loading_info=True, **options)
            _check_loaded(checkpoint, info)
            if not hasattr(model.config, "position_embedding_type"):
                model.config.position_embedding_type = (
                    "absolute"  # newer configs know no other; the converter asks
                )
            parameters = sum(parameter.numel() for parameter in model.parameters())
            return model

        def load_tokenizer(self, tokenizer_class: Any, path: str, **options: Any) -> Any:
            return _Vocabulary(tokenizer, tokens)

    spec = Converter(str(checkpoint.folder))._load()
    _correct(spec, checkpoint, tokens)
    return spec, parameters


def _check_loaded(checkpoint: Checkpoint, info: Mapping[str, Any]) -> None:
    """What transformers would make up, or leave out, in silence."""
    encoder = checkpoint.task == "embed"

    def matters(key: str) -> bool:
        return not (encoder and any(part in key for part in _NOT_USED))

    if missing := sorted(filter(matters, info["missing_keys"])):
        raise BadCheckpoint(checkpoint.folder, f"it has no tensor {missing[0]!r}")
    if wrong := sorted(str(key[0] if isinstance(key, tuple) else key) for key in info["mismatched_keys"]):
        raise BadCheckpoint(
            checkpoint.folder, f"tensor {wrong[0]!r} is not of the shape that config.json says"
        )
    unexpected = sorted(filter(matters, info["unexpected_keys"]))
    if unexpected and not encoder:
        what = f"it has tensors that no plain {checkpoint.model_type} has: {', '.join(unexpected[:5])}"
        raise UnsupportedModel(checkpoint.folder.name, what)


class _Vocabulary:
    """Our tokeniser, as the engine's converter asks for one."""

    chat_template = None
    special_tokens_map: Mapping[str, Any] = {}

    def __init__(self, tokenizer: Tokenizer, tokens: CheckpointTokens) -> None:
        self._tokenizer = tokenizer
        self.bos_token = tokens.bos
        self.eos_token = tokens.ends[0]
        self.unk_token = tokens.unknown
        self.pad_token = tokens.pad
        self.unk_token_id = tokenizer.token_to_id(tokens.unknown)

    def get_vocab(self) -> dict[str, int]:
        found: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return found

    def convert_ids_to_tokens(self, token_id: int) -> str | None:
        found: str | None = self._tokenizer.id_to_token(token_id)
        return found


def _correct(spec: Any, checkpoint: Checkpoint, tokens: CheckpointTokens) -> None:
    config = checkpoint.config
    epsilon = next((config[key] for key in _EPSILON_KEYS if key in config), None)
    if epsilon is not None:
        spec.config.layer_norm_epsilon = epsilon
    if checkpoint.model_type == "gemma3_text":
        _correct_gemma(spec, config)
    spec.config.eos_token = tokens.ends[0]


def _correct_gemma(spec: Any, config: Mapping[str, Any]) -> None:
    """The base of each layer's rotary embeddings, which newer configs keep where the converter does not look."""
    import numpy as np

    ropes = config.get("rope_parameters")
    if not isinstance(ropes, dict):
        return
    for layer, kind in zip(spec.decoder.layer, config["layer_types"], strict=True):
        layer.self_attention.rotary_base = np.float32(ropes[kind]["rope_theta"])


def _vocabulary_size(spec: Any) -> int:
    if hasattr(spec, "get_target_vocabulary_size"):
        return int(spec.get_target_vocabulary_size())
    return int(spec.get_vocabulary_size())


def _manifest(checkpoint: Checkpoint, tokens: CheckpointTokens, *, vocab_size: int, **more: Any) -> Manifest:
    encoder_decoder = checkpoint.task == "translate"
    layers = checkpoint.number(
        *(("decoder_layers", "num_decoder_layers", "num_layers") if encoder_decoder else ()),
        "num_hidden_layers",
        "n_layer",
    )
    heads = checkpoint.number("num_attention_heads", "n_head", "decoder_attention_heads", "num_heads")
    width = checkpoint.number("hidden_size", "n_embd", "d_model")
    head_dim = checkpoint.config.get("head_dim") or checkpoint.config.get("d_kv") or width // heads
    return Manifest(
        task=checkpoint.task,
        engine="ctranslate2",
        architecture=checkpoint.model_type,
        context_length=checkpoint.context_length,
        vocab_size=vocab_size,
        end_token_ids=tokens.end_ids,
        end_tokens=tokens.ends,
        bos_token_id=tokens.bos_id,
        bos_token=tokens.bos or "",
        add_bos=tokens.add_bos,
        chat_template=tokens.chat_template,
        source_prefix=tokens.source_prefix,
        source_suffix=tokens.source_suffix,
        target_prefix=tokens.target_prefix,
        languages=tokens.languages,
        pooling=checkpoint.pooling,
        normalise=checkpoint.normalise,
        layers=layers,
        heads=heads,
        head_dim=int(head_dim),
        **more,
    )


@contextlib.contextmanager
def _complaining(folder: Path) -> Iterator[None]:
    """Turns whatever transformers and the converter raise about a checkpoint into BadCheckpoint."""
    try:
        yield
    except (BadCheckpoint, UnsupportedModel, OSError, MemoryError):
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadCheckpoint(folder, f"it cannot be converted: {said}") from error
