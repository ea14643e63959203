"""The networks in GGUF files as CTranslate2 models: Llama, Mistral, Qwen2, Qwen3, Gemma 3 and GPT-2.

GGUF keeps Llama's query and key rows in the order of interleaved rotation (pairs next to each other); CTranslate2 is
told to rotate halves, as the original checkpoints do, so those rows are put back. The others' are as they were. Query,
key and value are one matrix in CTranslate2. A model without `output.weight` ties its projection to the embeddings.
Gemma's norms come with the 1 added that its checkpoints leave out; GPT-2's matrices come turned, as here.

Source: the conversions of llama.cpp, and `ctranslate2.converters.transformers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ctranslate2 import specs

from headrace.models.errors import UnsupportedModel
from headrace.models.gguf_shape import DecoderShape
from headrace.models.gguf_tensors import Rows, TensorSource

_PARTS = {
    "llama": "attn_norm attn_q attn_k attn_v attn_output ffn_norm ffn_gate ffn_up ffn_down",
    "qwen2": "attn_norm attn_q* attn_k* attn_v* attn_output ffn_norm ffn_gate ffn_up ffn_down",
    "qwen3": "attn_norm attn_q attn_k attn_v attn_q_norm attn_k_norm attn_output ffn_norm ffn_gate ffn_up ffn_down",
    "gemma3": "attn_norm attn_q attn_k attn_v attn_q_norm attn_k_norm attn_output post_attention_norm"
    " ffn_norm ffn_gate ffn_up ffn_down post_ffw_norm",
    "gpt2": "attn_norm* attn_qkv* attn_output* ffn_norm* ffn_up* ffn_down*",
}
"""Of each layer; * has a bias."""


def build_spec(source: TensorSource, shape: DecoderShape) -> Any:
    """A `TransformerDecoderModelSpec` of recipes; the caller registers the vocabulary and saves it.

    Raises BadGguf where a tensor is missing or of another shape, and UnsupportedModel where the file has one that has
    no place in the network.
    """
    _check_names(source, shape)
    spec = _empty_spec(shape)
    spec.config.layer_norm_epsilon = shape.norm_epsilon
    decoder = spec.decoder
    decoder.scale_embeddings = shape.architecture == "gemma3"
    embeddings = Rows(name="token_embd.weight", shape=(shape.vocabulary, shape.width))
    source.set(decoder.embeddings, embeddings)
    if source.has("output.weight"):
        source.set(decoder.projection, Rows(name="output.weight", shape=embeddings.shape))
    else:
        # The same variables, so that the model is saved with one copy.
        decoder.projection.weight = decoder.embeddings.weight
        decoder.projection.weight_scale = decoder.embeddings.weight_scale
    if shape.architecture == "gpt2":
        _fill_gpt2(decoder, shape, source)
    else:
        decoder.layer_norm.gamma = source.vector("output_norm.weight", size=shape.width)
        for index, layer in enumerate(decoder.layer):
            _fill_layer(layer, f"blk.{index}", shape, source)
            _set_window(layer.self_attention, index, shape)
    return spec


def _empty_spec(shape: DecoderShape) -> Any:
    kind = shape.architecture
    if kind == "gpt2":
        return specs.TransformerDecoderModelSpec.from_config(
            shape.layers, shape.heads, pre_norm=True, activation=specs.Activation.GELUTanh
        )
    gemma = kind == "gemma3"
    normed = kind in ("gemma3", "qwen3")
    return specs.TransformerDecoderModelSpec.from_config(
        shape.layers,
        shape.heads,
        activation=specs.Activation.GELUTanh if gemma else specs.Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=shape.head_dim if normed else 0,
        rotary_interleave=False,
        rotary_base=shape.rope_base,
        num_heads_kv=None if shape.kv_heads == shape.heads else shape.kv_heads,
        head_dim=shape.head_dim if normed else None,
        sliding_window=shape.window if gemma else None,
        pre_post_layer_norm=gemma,
        qk_norm=normed,
    )


def _fill_layer(layer: Any, block: str, shape: DecoderShape, source: TensorSource) -> None:
    attention, ffn, width = layer.self_attention, layer.ffn, shape.width
    gemma = shape.architecture == "gemma3"
    first, second = (
        (layer.input_layer_norm, layer.pre_feedforward_layer_norm)
        if gemma
        else (attention.layer_norm, ffn.layer_norm)
    )
    first.gamma = source.vector(f"{block}.attn_norm.weight", size=width)
    second.gamma = source.vector(f"{block}.ffn_norm.weight", size=width)
    if gemma:
        layer.post_attention_layer_norm.gamma = source.vector(
            f"{block}.post_attention_norm.weight", size=width
        )
        layer.post_feedforward_layer_norm.gamma = source.vector(f"{block}.post_ffw_norm.weight", size=width)
    if shape.architecture in ("gemma3", "qwen3"):
        attention.q_norm.gamma = source.vector(f"{block}.attn_q_norm.weight", size=shape.head_dim)
        attention.k_norm.gamma = source.vector(f"{block}.attn_k_norm.weight", size=shape.head_dim)
    llama = shape.architecture == "llama"
    source.set(
        attention.linear[0],
        _projection(f"{block}.attn_q", shape.heads, shape, paired=llama),
        _projection(f"{block}.attn_k", shape.kv_heads, shape, paired=llama),
        _projection(f"{block}.attn_v", shape.kv_heads, shape, paired=False),
    )
    if shape.architecture == "qwen2":
        attention.linear[0].bias = source.vector(
            *(f"{block}.attn_{part}.bias" for part in "qkv"),
            size=(shape.attention_width, shape.kv_width, shape.kv_width),
        )
    source.set(
        attention.linear[1], Rows(name=f"{block}.attn_output.weight", shape=(width, shape.attention_width))
    )
    source.set(ffn.linear_0, Rows(name=f"{block}.ffn_gate.weight", shape=(shape.inner, width)))
    source.set(ffn.linear_0_noact, Rows(name=f"{block}.ffn_up.weight", shape=(shape.inner, width)))
    source.set(ffn.linear_1, Rows(name=f"{block}.ffn_down.weight", shape=(width, shape.inner)))


def _projection(name: str, heads: int, shape: DecoderShape, *, paired: bool) -> Rows:
    rows = (heads * shape.head_dim, shape.width)
    return Rows(name=f"{name}.weight", shape=rows, paired_heads=heads if paired else 0)


def _set_window(attention: Any, index: int, shape: DecoderShape) -> None:
    if not shape.window:
        return
    everywhere = (index + 1) % shape.global_every == 0
    attention.rotary_base = np.float32(shape.rope_base if everywhere else shape.local_rope_base)
    attention.sliding_window = np.int32(0 if everywhere else shape.window)


def _fill_gpt2(decoder: Any, shape: DecoderShape, source: TensorSource) -> None:
    def norm(layer: Any, name: str) -> None:
        layer.gamma = source.vector(f"{name}.weight", size=shape.width)
        layer.beta = source.vector(f"{name}.bias", size=shape.width)

    def linear(layer: Any, name: str, rows: int, columns: int) -> None:
        source.set(layer, Rows(name=f"{name}.weight", shape=(rows, columns)))
        layer.bias = source.vector(f"{name}.bias", size=rows)

    width, inner = shape.width, shape.inner
    decoder.position_encodings.encodings = source.table("position_embd.weight", (shape.context_length, width))
    norm(decoder.layer_norm, "output_norm")
    for index, layer in enumerate(decoder.layer):
        block = f"blk.{index}"
        norm(layer.self_attention.layer_norm, f"{block}.attn_norm")
        linear(layer.self_attention.linear[0], f"{block}.attn_qkv", 3 * width, width)
        linear(layer.self_attention.linear[1], f"{block}.attn_output", width, width)
        norm(layer.ffn.layer_norm, f"{block}.ffn_norm")
        linear(layer.ffn.linear_0, f"{block}.ffn_up", inner, width)
        linear(layer.ffn.linear_1, f"{block}.ffn_down", width, inner)


def _check_names(source: TensorSource, shape: DecoderShape) -> None:
    unknown = sorted(set(source.file.tensor_names) - set(_names(shape)))
    if unknown:
        raise UnsupportedModel(
            source.file.path.name,
            f"it has tensors that no plain {shape.architecture} has: {', '.join(unknown[:5])}",
        )


def _names(shape: DecoderShape) -> Iterator[str]:
    yield from ("token_embd.weight", "output_norm.weight", "output.weight")
    if shape.architecture == "gpt2":
        yield from ("output_norm.bias", "position_embd.weight")
    for layer in range(shape.layers):
        for part in _PARTS[shape.architecture].split():
            yield f"blk.{layer}.{part.rstrip('*')}.weight"
            if part.endswith("*"):
                yield f"blk.{layer}.{part.rstrip('*')}.bias"
