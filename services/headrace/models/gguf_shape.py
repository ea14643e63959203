"""The numbers that fix the network in a GGUF file, from its metadata, and what of it the engine would get wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass

from headrace.models.errors import BadGguf, UnsupportedModel
from headrace.models.gguf_file import GgufFile

ARCHITECTURES = ("gemma3", "gpt2", "llama", "qwen2", "qwen3")
"""As GGUF names them. Mistral's models are `llama` there."""

_GEMMA_PATTERN = 6
"""Gemma 3: each sixth layer attends to all tokens, the others to a window."""
_GEMMA_27B_LAYERS = 62


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape:
    """A decoder's numbers."""

    architecture: str
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context_length: int
    rope_base: float
    norm_epsilon: float
    window: int = 0
    """Tokens back that a windowed layer attends to; 0 where all layers attend to all. No context is longer: for
    prompts beyond the window the engine fails."""
    global_every: int = 1
    """With a window: each how manieth layer has none."""
    local_rope_base: float = 10_000.0
    """Of the windowed layers."""

    @property
    def attention_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim


def read_shape(file: GgufFile) -> DecoderShape:
    """The network's numbers. Raises BadGguf, and UnsupportedModel for what the engine would compute wrongly."""
    kind = file.get("general.architecture", str)
    if kind not in ARCHITECTURES:
        raise UnsupportedModel(file.path.name, f"architecture {kind!r}; known are {', '.join(ARCHITECTURES)}")
    heads = _positive(file, f"{kind}.attention.head_count")
    width = _positive(file, f"{kind}.embedding_length")
    if width % heads and not file.has(f"{kind}.attention.key_length"):
        raise BadGguf(file.path, f"{width} dimensions do not divide among {heads} heads")
    epsilon = "layer_norm_epsilon" if kind == "gpt2" else "layer_norm_rms_epsilon"
    gemma = kind == "gemma3"
    context = _positive(file, f"{kind}.context_length")
    window = _window(file, kind)
    shape = DecoderShape(
        architecture=kind,
        layers=_positive(file, f"{kind}.block_count"),
        width=width,
        inner=_positive(file, f"{kind}.feed_forward_length"),
        heads=heads,
        kv_heads=_positive(file, f"{kind}.attention.head_count_kv", heads),
        head_dim=_positive(file, f"{kind}.attention.key_length", width // heads),
        vocabulary=file.shape("token_embd.weight")[0],
        context_length=min(context, window) if window else context,
        rope_base=file.get(f"{kind}.rope.freq_base", float, 1_000_000.0 if gemma else 10_000.0),
        norm_epsilon=file.get(f"{kind}.attention.{epsilon}", float),
        window=window,
        global_every=_GEMMA_PATTERN if gemma else 1,
        local_rope_base=file.get(f"{kind}.rope.freq_base_swa", float, 10_000.0),
    )
    _refuse(file, shape)
    return shape


def _positive(file: GgufFile, key: str, default: int | None = None) -> int:
    if (value := file.get(key, int, default)) < 1:
        raise BadGguf(file.path, f"{key!r} is {value}")
    return value


def _window(file: GgufFile, kind: str) -> int:
    key = f"{kind}.attention.sliding_window"
    if kind == "gemma3":
        return _positive(file, key)
    context = file.get(f"{kind}.context_length", int)
    if 0 < (window := file.get(key, int, 0)) < context:
        raise UnsupportedModel(
            file.path.name, f"it attends to a window of {window} tokens, of a context of {context}"
        )
    return 0


def _refuse(file: GgufFile, shape: DecoderShape) -> None:
    name, kind = file.path.name, shape.architecture
    if shape.layers > len(file.tensor_names):
        raise BadGguf(
            file.path, f"'{kind}.block_count' is {shape.layers}, and it has {len(file.tensor_names)} tensors"
        )
    for key, value in (("rope.freq_base", shape.rope_base), ("rope.freq_base_swa", shape.local_rope_base)):
        if not 0 < value < math.inf:
            raise BadGguf(file.path, f"'{kind}.{key}' is {value}")
    if not 0 <= shape.norm_epsilon < 1:
        raise BadGguf(file.path, f"the epsilon of its norms is {shape.norm_epsilon}, and must be in [0, 1)")
    # 'llama3' scaling has no name in GGUF: it comes as a tensor of factors.
    scaling = (
        "llama3"
        if "rope_freqs.weight" in file.tensor_names
        else file.get(f"{kind}.rope.scaling.type", str, "none")
    )
    if scaling != "none":
        raise UnsupportedModel(
            name, f"the engine would compute its scaled rotary embeddings ({scaling}) wrongly"
        )
    if file.get(f"{kind}.expert_count", int, 0) > 0:
        raise UnsupportedModel(name, "it is a mixture of experts")
    if file.get(f"{kind}.rope.dimension_count", int, shape.head_dim) != shape.head_dim:
        raise UnsupportedModel(name, "its rotary embeddings cover a part of each head only")
    if file.get(f"{kind}.attention.value_length", int, shape.head_dim) != shape.head_dim:
        raise UnsupportedModel(name, "its values are not as wide as its keys")
    if kind in ("gpt2", "llama", "qwen2") and shape.attention_width != shape.width:
        raise UnsupportedModel(name, "its heads together are not as wide as the model")
    if kind == "gemma3" and shape.layers == _GEMMA_27B_LAYERS:
        raise UnsupportedModel(name, "the engine would scale the queries of Gemma 3 27B wrongly")
    if shape.heads % shape.kv_heads:
        raise BadGguf(file.path, f"{shape.heads} heads cannot share {shape.kv_heads} key-value heads")
