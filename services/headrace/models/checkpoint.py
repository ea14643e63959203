"""What the JSON files of a Hugging Face folder say about its model: before any weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.models.errors import BadCheckpoint, UnsupportedModel
from headrace.models.manifest import ModelTask, Pooling
from headrace.models.tokeniser_files import read_json

_TASKS: Mapping[str, ModelTask] = {
    **dict.fromkeys(
        (["bloom", "falcon", "gemma3_text", "gpt2", "gptj", "llama", "mistral", "opt", "qwen2", "qwen3"]),
        "generate",
    ),
    **dict.fromkeys(("marian", "m2m_100", "t5"), "translate"),
    **dict.fromkeys(("bert", "xlm-roberta"), "embed"),
}
_REFUSED = {
    "gemma": "its logits have not been shown to be right",
    "gemma2": "the engine's logits for Gemma 2 are wrong by a hundredth",
    "gemma3": "it sees pictures, too; only Gemma's text models (gemma3_text) can be",
    "gpt_neox": "the engine's converter fails on GPT-NeoX with this transformers",
    "phi": "the engine's converter fails on Phi with this transformers",
    "phi3": "the engine's converter fails on Phi-3 with this transformers",
}
_FALCON_ROPE_BASE = 10_000.0
"""The one that the engine's converter takes, whatever the config says."""
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length")
_TOO_LARGE = 1 << 31
"""No dimension, count or id of a network reaches it."""
_WINDOWED = ("gemma3_text", "mistral")
"""Some or all of whose layers attend to a window: beyond it the engine fails (Gemma 3), or has not been
shown to be right (Mistral)."""
_NO_LIMIT_KNOWN = {"bloom": 2048, "t5": 512}
"""What networks without positions were trained for, where their config does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The model in a folder, as its JSON files describe it."""

    folder: Path
    model_type: str
    task: ModelTask
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    tokeniser: Mapping[str, Any]
    """tokenizer_config.json"""
    pooling: Pooling | None = None
    normalise: bool = False
    max_tokens: int | None = None
    """What a sentence embedder says its longest text is."""
    special: Mapping[str, Any] = field(default_factory=dict)
    """special_tokens_map.json"""

    @property
    def vocabulary(self) -> int:
        return self.number("vocab_size")

    @property
    def context_length(self) -> int:
        found = next((self.config[key] for key in _CONTEXT_KEYS if self.config.get(key)), None)
        if found is None:
            found = _NO_LIMIT_KNOWN.get(self.model_type)
        if type(found) is not int or not 0 < found < _TOO_LARGE:
            raise BadCheckpoint(self.folder, "config.json does not say how long its context is")
        if self.model_type == "xlm-roberta":
            found -= self.number("pad_token_id") + 1  # its first positions are never used
        if self.model_type in _WINDOWED and isinstance(window := self.config.get("sliding_window"), int):
            found = min(found, window)
        return min(found, self.max_tokens or found)

    def number(self, key: str, *others: str) -> int:
        """The whole number that config.json has for `key`, or for the first of `others`. Raises BadCheckpoint."""
        for name in (key, *others):
            if self.config.get(name) is not None:
                return _whole(self.folder, self.config, name)
        raise BadCheckpoint(self.folder, f"config.json has no number {key!r}")


def read_checkpoint(folder: Path) -> Checkpoint:
    """The folder's model. Raises BadCheckpoint, and UnsupportedModel for what would be converted wrongly."""
    config = read_json(folder / "config.json")
    kind = str(config.get("model_type", ""))
    if kind in _REFUSED:
        raise UnsupportedModel(folder.name, _REFUSED[kind])
    if kind not in _TASKS:
        raise UnsupportedModel(folder.name, f"model type {kind!r}; known are {', '.join(sorted(_TASKS))}")
    _refuse_scaling(folder, config)
    _refuse_variants(folder, kind, config)
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        raise BadCheckpoint(folder, "it has no weights (*.safetensors or pytorch_model*.bin)")
    pooling, normalise = _pooling(folder) if _TASKS[kind] == "embed" else (None, False)
    limit = read_json(folder / "sentence_bert_config.json", default={}).get("max_seq_length")
    return Checkpoint(
        folder=folder,
        model_type=kind,
        task=_TASKS[kind],
        config=config,
        generation=read_json(folder / "generation_config.json", default={}),
        tokeniser=read_json(folder / "tokenizer_config.json", default={}),
        special=read_json(folder / "special_tokens_map.json", default={}),
        pooling=pooling,
        normalise=normalise,
        max_tokens=limit if isinstance(limit, int) and limit > 0 else None,
    )


def _refuse_scaling(folder: Path, config: Mapping[str, Any]) -> None:
    for found in (config.get("rope_scaling"), config.get("rope_parameters")):
        # Gemma 3 has one for each kind of layer.
        kinds = found.values() if isinstance(found, dict) else ()
        for rope in (found, *kinds):
            if not isinstance(rope, dict):
                continue
            kind = rope.get("rope_type", rope.get("type", "default"))
            if kind not in ("default", None):
                raise UnsupportedModel(
                    folder.name, f"the engine would compute its scaled rotary embeddings ({kind}) wrongly"
                )


def _refuse_variants(folder: Path, kind: str, config: Mapping[str, Any]) -> None:
    """Variants of known models that the engine's converter ignores."""
    if config.get("quantization_config"):
        raise UnsupportedModel(folder.name, "its weights are quantised; take the original ones")
    if kind == "gemma3_text" and config.get("query_pre_attn_scalar") != config.get("head_dim"):
        raise UnsupportedModel(folder.name, "the engine would scale its queries wrongly")
    if kind == "falcon" and _rope_base(folder, config) != _FALCON_ROPE_BASE:
        raise UnsupportedModel(folder.name, "the engine would rotate by another base than its own")
    if kind in ("qwen2", "qwen3") and config.get("use_sliding_window"):
        raise UnsupportedModel(folder.name, "some of its layers attend to a window only")
    if kind == "llama" and (config.get("attention_bias") or config.get("mlp_bias")):
        raise UnsupportedModel(folder.name, "it has biases, which have not been shown to be computed right")
    if kind == "llama":
        heads, width = (_whole(folder, config, key, 0) for key in ("num_attention_heads", "hidden_size"))
        if _whole(folder, config, "head_dim", width // max(1, heads)) * heads != width:
            raise UnsupportedModel(folder.name, "its heads together are not as wide as the model")


def _rope_base(folder: Path, config: Mapping[str, Any]) -> float:
    rope = config.get("rope_parameters")
    found = rope.get("rope_theta") if isinstance(rope, dict) else config.get("rope_theta")
    if found is not None and type(found) not in (int, float):
        raise BadCheckpoint(folder, "'rope_theta' in config.json is no number")
    return found or _FALCON_ROPE_BASE


def _whole(folder: Path, config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key)
    if value is None and default is not None:
        return default
    if type(value) is not int or not 0 <= value < _TOO_LARGE:
        raise BadCheckpoint(folder, f"{key!r} in config.json is no whole number below {_TOO_LARGE}")
    return value


def _pooling(folder: Path) -> tuple[Pooling, bool]:
    """How token vectors become one, as sentence-transformers notes it; without a note the mean, of length 1."""
    if not (folder / "modules.json").exists():
        return "mean", True
    found = read_json(folder / "1_Pooling" / "config.json", default={})
    modes: dict[str, Pooling] = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "first",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_lasttoken": "last",
    }
    chosen = [modes[key] for key in modes if found.get(key)]
    if len(chosen) > 1:
        raise UnsupportedModel(folder.name, "it joins several ways of pooling")
    modules = (folder / "modules.json").read_text(encoding="utf-8")
    return (chosen or ["mean"])[0], "Normalize" in modules
