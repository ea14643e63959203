"""A tiny Llama with random weights, written as GGUF the way llama.cpp's converter does, and computed with numpy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from headrace.models.token_bytes import byte_alphabet

Array = npt.NDArray[np.float64]

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ t", "h e", "Ġt he", "i n", "in g", "1 2"]
USER_DEFINED = ["<tool>"]
TOKENS = [*SPECIALS, *byte_alphabet(), *(merge.replace(" ", "") for merge in MERGES), *USER_DEFINED]
CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class TinyLlama:
    """The network, with its weights in the order of the original checkpoints (rotation of halves)."""

    heads: int = 4
    kv_heads: int = 2
    layers: int = 2
    inner: int = 96
    head_dim: int = 16
    rope_base: float = 5000.0
    epsilon: float = 1e-5
    tied: bool = True
    seed: int = 7
    weights: dict[str, Array] = field(default_factory=dict)

    @property
    def width(self) -> int:
        return self.heads * self.head_dim

    @classmethod
    def random(cls, **shape: Any) -> TinyLlama:
        tiny = cls(**shape)
        rng = np.random.default_rng(tiny.seed)
        weights = {}
        for name, size in tiny._shapes():
            if len(size) == 1:
                weights[name] = rng.uniform(0.5, 1.5, size)
            else:
                weights[name] = rng.normal(0, size[1] ** -0.5 * 1.5, size)
            weights[name] = weights[name].astype(np.float32).astype(np.float64)
        return replace(tiny, weights=weights)

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        width, kv = self.width, self.kv_heads * self.head_dim
        yield "token_embd", (len(TOKENS), width)
        yield "output_norm", (width,)
        if not self.tied:
            yield "output", (len(TOKENS), width)
        for layer in range(self.layers):
            for part, size in {
                "attn_norm": (width,),
                "attn_q": (width, width),
                "attn_k": (kv, width),
                "attn_v": (kv, width),
                "attn_output": (width, width),
                "ffn_norm": (width,),
                "ffn_gate": (self.inner, width),
                "ffn_up": (self.inner, width),
                "ffn_down": (width, self.inner),
            }.items():
                yield f"blk.{layer}.{part}", size

    def logits(self, ids: Sequence[int]) -> Array:
        """[position, token] of the plain forward pass."""
        w = self.weights
        x = w["token_embd"][list(ids)]
        for layer in range(self.layers):
            h = self._norm(x, w[f"blk.{layer}.attn_norm"])
            x = x + self._attention(h, f"blk.{layer}")
            h = self._norm(x, w[f"blk.{layer}.ffn_norm"])
            gate = h @ w[f"blk.{layer}.ffn_gate"].T
            x = (
                x
                + (gate / (1 + np.exp(-gate)) * (h @ w[f"blk.{layer}.ffn_up"].T))
                @ w[f"blk.{layer}.ffn_down"].T
            )
        result: Array = self._norm(x, w["output_norm"]) @ w["token_embd" if self.tied else "output"].T
        return result

    def _norm(self, x: Array, gamma: Array) -> Array:
        result: Array = x / np.sqrt((x**2).mean(-1, keepdims=True) + self.epsilon) * gamma
        return result

    def _attention(self, h: Array, block: str) -> Array:
        q = self._rotated(self._split(h @ self.weights[f"{block}.attn_q"].T, self.heads))
        k = self._rotated(self._split(h @ self.weights[f"{block}.attn_k"].T, self.kv_heads))
        v = self._split(h @ self.weights[f"{block}.attn_v"].T, self.kv_heads)
        k, v = (np.repeat(each, self.heads // self.kv_heads, axis=0) for each in (k, v))
        scores = q @ k.swapaxes(1, 2) / np.sqrt(self.head_dim)
        scores[:, *np.triu_indices(len(h), 1)] = -np.inf
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        together = (shares @ v).swapaxes(0, 1).reshape(len(h), self.width)
        result: Array = together @ self.weights[f"{block}.attn_output"].T
        return result

    def _split(self, x: Array, heads: int) -> Array:
        return x.reshape(len(x), heads, self.head_dim).swapaxes(0, 1)

    def _rotated(self, x: Array) -> Array:
        half = self.head_dim // 2
        angles = np.outer(np.arange(x.shape[1]), self.rope_base ** (-np.arange(half) / half))
        left, right = x[..., :half], x[..., half:]
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate((left * cos - right * sin, left * sin + right * cos), axis=-1)

    def write(self, path: Path, *, kind: str = "F32", **metadata: Any) -> Path:
        """As GGUF, matrices as tensor type `kind`. `metadata` replaces keys (`__` for `.`); None leaves one out."""
        writer = gguf.GGUFWriter(path, "llama")
        for key, value in {
            **self._metadata(),
            **{k.replace("__", "."): v for k, v in metadata.items()},
        }.items():
            if value is not None:
                add_metadata(writer, key, value)
        for name, values in self.weights.items():
            if name.endswith(".attn_q"):
                values = pairs_from_halves(values, self.heads)
            elif name.endswith(".attn_k"):
                values = pairs_from_halves(values, self.kv_heads)
            _add_tensor(writer, f"{name}.weight", values.astype(np.float32), kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def _metadata(self) -> dict[str, Any]:
        kinds = (
            [3] * len(SPECIALS)
            + [1] * (len(TOKENS) - len(SPECIALS) - len(USER_DEFINED))
            + [4] * len(USER_DEFINED)
        )
        return {
            "llama.context_length": 128,
            "llama.embedding_length": self.width,
            "llama.block_count": self.layers,
            "llama.feed_forward_length": self.inner,
            "llama.attention.head_count": self.heads,
            "llama.attention.head_count_kv": self.kv_heads,
            "llama.attention.layer_norm_rms_epsilon": self.epsilon,
            "llama.rope.freq_base": self.rope_base,
            "llama.rope.dimension_count": self.head_dim,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "smollm",
            "tokenizer.ggml.tokens": TOKENS,
            "tokenizer.ggml.token_type": kinds,
            "tokenizer.ggml.merges": MERGES,
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.unknown_token_id": 0,
            "tokenizer.ggml.add_bos_token": False,
            "tokenizer.chat_template": CHATML,
        }


def pairs_from_halves(rows: Array, heads: int) -> Array:
    """The re-ordering of llama.cpp's converter."""
    outputs, inputs = rows.shape
    return rows.reshape(heads, 2, outputs // heads // 2, inputs).swapaxes(1, 2).reshape(outputs, inputs)


def add_metadata(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_string(key, value)


def _add_tensor(writer: gguf.GGUFWriter, name: str, values: npt.NDArray[np.float32], kind: str) -> None:
    if kind == "F32" or values.ndim == 1:
        writer.add_tensor(name, values)
        return
    quantised = gguf.GGMLQuantizationType[kind]
    writer.add_tensor(name, gguf.quants.quantize(values, quantised), raw_dtype=quantised)
