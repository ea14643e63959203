"""The weights of a Llama-family GGUF file as a CTranslate2 model, with numpy alone.

GGUF keeps the query and key rows in the order of interleaved rotation (pairs next to each other); CTranslate2 is told
to rotate halves, as the original checkpoints do, so those rows are put back. Query, key and value are one matrix in
CTranslate2. A model without `output.weight` ties its projection to the embeddings. Each matrix is quantised as soon as
it is read: at most one is in memory as float32.

Source: the LLaMA conversion of llama.cpp (`permute`) and `ctranslate2.converters.transformers.LlamaLoader`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from ctranslate2 import specs

from headrace.models.errors import BadGguf, UnsupportedModel
from headrace.models.gguf_file import FloatArray, GgufFile

Quantisation = Literal["int8", "float32"]
TensorProgress = Callable[[int, int], None]
"""Called with (tensors so far, tensors in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaShape:
    """The numbers that fix a Llama-family network."""

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


def read_shape(file: GgufFile) -> LlamaShape:
    """The network's numbers from the metadata. Raises UnsupportedModel for what CTranslate2 would compute wrongly."""
    architecture = file.get("general.architecture", str)
    if architecture != "llama":
        raise UnsupportedModel(file.path.name, f"architecture {architecture!r}; only 'llama' can be")
    heads = file.get("llama.attention.head_count", int)
    width = file.get("llama.embedding_length", int)
    if heads < 1 or width % heads:
        raise BadGguf(file.path, f"{width} dimensions do not divide among {heads} heads")
    shape = LlamaShape(
        layers=file.get("llama.block_count", int),
        width=width,
        inner=file.get("llama.feed_forward_length", int),
        heads=heads,
        kv_heads=file.get("llama.attention.head_count_kv", int, heads),
        head_dim=file.get("llama.attention.key_length", int, width // heads),
        vocabulary=file.shape("token_embd.weight")[0],
        context_length=file.get("llama.context_length", int),
        rope_base=file.get("llama.rope.freq_base", float, 10_000.0),
        norm_epsilon=file.get("llama.attention.layer_norm_rms_epsilon", float),
    )
    _refuse(file, shape)
    return shape


def _refuse(file: GgufFile, shape: LlamaShape) -> None:
    name = file.path.name
    # 'llama3' scaling has no name in GGUF: it comes as a tensor of factors.
    scaling = (
        "llama3"
        if "rope_freqs.weight" in file.tensor_names
        else file.get("llama.rope.scaling.type", str, "none")
    )
    if scaling != "none":
        raise UnsupportedModel(
            name, f"the engine would compute its scaled rotary embeddings ({scaling}) wrongly"
        )
    if file.get("llama.expert_count", int, 0) > 0:
        raise UnsupportedModel(name, "it is a mixture of experts")
    if file.get("llama.rope.dimension_count", int, shape.head_dim) != shape.head_dim:
        raise UnsupportedModel(name, "its rotary embeddings cover a part of each head only")
    value_dim = file.get("llama.attention.value_length", int, shape.head_dim)
    if shape.head_dim * shape.heads != shape.width or value_dim != shape.head_dim:
        raise UnsupportedModel(name, "its heads together are not as wide as the model")
    if shape.kv_heads < 1 or shape.heads % shape.kv_heads:
        raise BadGguf(file.path, f"{shape.heads} heads cannot share {shape.kv_heads} key-value heads")


def build_spec(
    file: GgufFile, shape: LlamaShape, quantisation: Quantisation, progress: TensorProgress
) -> Any:
    """The filled `TransformerDecoderModelSpec`; the caller registers the vocabulary and saves it.

    Raises UnsupportedModel where the file has a tensor that has no place in the network, for example a bias.
    """
    spec = specs.TransformerDecoderModelSpec.from_config(
        shape.layers,
        shape.heads,
        activation=specs.Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=False,
        rotary_base=shape.rope_base,
        num_heads_kv=None if shape.kv_heads == shape.heads else shape.kv_heads,
    )
    spec.config.layer_norm_epsilon = shape.norm_epsilon
    spec.decoder.scale_embeddings = False
    expected = set(_names(shape))
    if unknown := sorted(set(file.tensor_names) - expected - {"output.weight"}):
        raise UnsupportedModel(
            file.path.name, f"it has tensors that no plain Llama has: {', '.join(unknown[:5])}"
        )
    weights = _Weights(file, quantisation, progress)
    _fill(spec.decoder, shape, weights)
    return spec


_ATTENTION = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output")
_FFN = ("ffn_norm", "ffn_gate", "ffn_up", "ffn_down")


def _names(shape: LlamaShape) -> Iterator[str]:
    yield from ("token_embd.weight", "output_norm.weight")
    for layer in range(shape.layers):
        for part in (*_ATTENTION, *_FFN):
            yield f"blk.{layer}.{part}.weight"


class _Weights:
    """Reads tensors, counts them, and sets them quantised."""

    def __init__(self, file: GgufFile, quantisation: Quantisation, progress: TensorProgress) -> None:
        self.file = file
        self._quantisation = quantisation
        self._progress = progress
        self._done = 0

    def read(self, name: str, *shape: int) -> FloatArray:
        tensor = self.file.tensor(name, shape)
        self._done += 1
        self._progress(self._done, len(self.file.tensor_names))
        return tensor

    def set(self, layer: Any, values: FloatArray) -> None:
        if self._quantisation == "int8":
            layer.weight, layer.weight_scale = quantise_rows(values)
        else:
            layer.weight = values


def _fill(decoder: Any, shape: LlamaShape, weights: _Weights) -> None:
    width, inner, kv_width = shape.width, shape.inner, shape.kv_heads * shape.head_dim
    weights.set(decoder.embeddings, weights.read("token_embd.weight", shape.vocabulary, width))
    decoder.layer_norm.gamma = weights.read("output_norm.weight", width)
    if "output.weight" in weights.file.tensor_names:
        weights.set(decoder.projection, weights.read("output.weight", shape.vocabulary, width))
    else:
        # The same arrays, so that the model is saved with one copy.
        decoder.projection.weight = decoder.embeddings.weight
        decoder.projection.weight_scale = decoder.embeddings.weight_scale
    for index, layer in enumerate(decoder.layer):
        block = f"blk.{index}"
        attention, ffn = layer.self_attention, layer.ffn
        attention.layer_norm.gamma = weights.read(f"{block}.attn_norm.weight", width)
        query = halves_from_pairs(weights.read(f"{block}.attn_q.weight", width, width), shape.heads)
        key = halves_from_pairs(weights.read(f"{block}.attn_k.weight", kv_width, width), shape.kv_heads)
        value = weights.read(f"{block}.attn_v.weight", kv_width, width)
        weights.set(attention.linear[0], np.concatenate((query, key, value)))
        weights.set(attention.linear[1], weights.read(f"{block}.attn_output.weight", width, width))
        ffn.layer_norm.gamma = weights.read(f"{block}.ffn_norm.weight", width)
        weights.set(ffn.linear_0, weights.read(f"{block}.ffn_gate.weight", inner, width))
        weights.set(ffn.linear_0_noact, weights.read(f"{block}.ffn_up.weight", inner, width))
        weights.set(ffn.linear_1, weights.read(f"{block}.ffn_down.weight", width, inner))


def halves_from_pairs(rows: FloatArray, heads: int) -> FloatArray:
    """Undoes llama.cpp's re-ordering: the rows of each head become those of even index, then those of odd index."""
    outputs, inputs = rows.shape
    return rows.reshape(heads, outputs // heads // 2, 2, inputs).swapaxes(1, 2).reshape(outputs, inputs)


def quantise_rows(values: FloatArray) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """int8 weights with one scale per row, such that weight / scale is the value again.

    Source: `ctranslate2.specs.model_spec.LayerSpec._quantize`, whose result this equals bit for bit.
    """
    largest = np.amax(np.absolute(values), axis=1)
    largest[largest == 0] = 127.0
    # Keeps the scale of a row of tiny values within float32.
    largest = np.maximum(largest, np.float32(127) / np.finfo(np.float32).max)
    scale = (127.0 / largest).astype(np.float32)
    return np.rint(values * scale[:, None]).astype(np.int8), scale
