"""A network of transformers as a GGUF file, the way llama.cpp's converter writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from sentencepiece import sentencepiece_model_pb2 as wire

from tests.models.references.tiny_vocabularies import TinyVocabulary
from tests.models.tiny_gguf import add_metadata, pairs_from_halves

Array = npt.NDArray[np.float32]

GGUF_ARCHITECTURE = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma3": "gemma3",
    "gpt2": "gpt2",
}
_TOP = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
}
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
_GEMMA = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def write_gguf(path: Path, architecture: str, model: Any, vocabulary: TinyVocabulary, folder: Path) -> None:
    """Writes `model`, matrices in float16 and the rest in float32."""
    kind = GGUF_ARCHITECTURE[architecture]
    writer = gguf.GGUFWriter(path, kind)
    for key, value in {**_numbers(kind, model.config), **_tokens(kind, vocabulary, folder)}.items():
        add_metadata(writer, key, value)
    for name, values in _tensors(kind, model):
        writer.add_tensor(name, values if values.ndim == 1 else values.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(kind: str, model: Any) -> Iterator[tuple[str, Array]]:
    tied = model.config.tie_word_embeddings
    for name, tensor in model.state_dict().items():
        module, _, part = name.rpartition(".")
        values: Array = tensor.numpy().astype(np.float32)
        if module == "lm_head" and tied:
            continue
        if module in _TOP:
            target = _TOP[module]
        else:
            _, _, index, inner = module.split(".", 3)
            target = f"blk.{index}.{(_GEMMA if kind == 'gemma3' else {}).get(inner) or _LAYER[inner]}"
        if kind == "gemma3" and target.endswith("norm"):
            values = values + 1
        if kind == "gpt2" and values.ndim == 2 and target.startswith("blk."):
            values = values.T
        if kind == "llama" and target.endswith((".attn_q", ".attn_k")):
            heads = model.config.num_attention_heads
            if target.endswith("k"):
                heads = model.config.num_key_value_heads
            values = pairs_from_halves(values.astype(np.float64), heads).astype(np.float32)
        yield f"{target}.{part}", np.ascontiguousarray(values)


def _numbers(kind: str, config: Any) -> dict[str, Any]:
    if kind == "gpt2":
        return {
            "gpt2.context_length": config.n_positions,
            "gpt2.embedding_length": config.n_embd,
            "gpt2.feed_forward_length": 4 * config.n_embd,
            "gpt2.block_count": config.n_layer,
            "gpt2.attention.head_count": config.n_head,
            "gpt2.attention.layer_norm_epsilon": config.layer_norm_epsilon,
        }
    ropes = config.rope_parameters
    found: dict[str, Any] = {
        f"{kind}.context_length": config.max_position_embeddings,
        f"{kind}.embedding_length": config.hidden_size,
        f"{kind}.block_count": config.num_hidden_layers,
        f"{kind}.feed_forward_length": config.intermediate_size,
        f"{kind}.attention.head_count": config.num_attention_heads,
        f"{kind}.attention.head_count_kv": config.num_key_value_heads,
        f"{kind}.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        f"{kind}.rope.freq_base": float(ropes.get("full_attention", ropes)["rope_theta"]),
    }
    if kind == "llama":
        found["llama.rope.dimension_count"] = config.hidden_size // config.num_attention_heads
    if kind in ("qwen3", "gemma3"):
        found[f"{kind}.attention.key_length"] = found[f"{kind}.attention.value_length"] = config.head_dim
    if kind == "gemma3":
        found["gemma3.attention.sliding_window"] = config.sliding_window
    return found


def _tokens(kind: str, vocabulary: TinyVocabulary, folder: Path) -> dict[str, Any]:
    if vocabulary.pieces is None:
        return _byte_level_tokens(kind, vocabulary, folder)
    pieces = wire.ModelProto.FromString(vocabulary.pieces.serialized_model_proto()).pieces
    kinds = [piece.type for piece in pieces]
    # llama.cpp writes the makers' own tokens as they stand in a text.
    texts = [p.piece.replace("▁", " ") if p.type == 4 else p.piece for p in pieces]
    scores = [piece.score for piece in pieces]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": vocabulary.begin,
        "tokenizer.ggml.eos_token_id": vocabulary.end,
        "tokenizer.ggml.unknown_token_id": kinds.index(2),
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": kind != "gemma3",
    }


def _byte_level_tokens(kind: str, vocabulary: TinyVocabulary, folder: Path) -> dict[str, Any]:
    document = json.loads((folder / "tokenizer.json").read_text())
    ids = document["model"]["vocab"]
    special = {token["content"] for token in document["added_tokens"]}
    texts = sorted(ids, key=ids.__getitem__)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2" if kind == "gpt2" else "qwen2",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": [3 if text in special else 1 for text in texts],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in document["model"]["merges"]],
        "tokenizer.ggml.eos_token_id": vocabulary.end,
        "tokenizer.ggml.add_bos_token": False,
    }
