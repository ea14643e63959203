"""Real decoder models of random weights, int8: what they say means nothing, and what they cost is what any would.

    python -m tests.worker.random_model STORE small larger     puts both into the store

`small` is 8 layers × 512, 33 MB; `larger` 16 layers × 1024, 219 MB.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2 import specs
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore, StoredModel
from headrace.models.token_bytes import byte_alphabet
from headrace.models.tokeniser import TOKENISER_NAME

HEAD_DIM = 64
END = "<|im_end|>"


@dataclass(frozen=True, kw_only=True)
class RandomModel:
    """A network like Llama's, SwiGLU and all."""

    layers: int
    width: int
    inner: int
    vocabulary: int = 8192
    context_length: int = 2048

    @property
    def heads(self) -> int:
        return self.width // HEAD_DIM


MODELS = {
    "small": RandomModel(layers=8, width=512, inner=1376),
    "larger": RandomModel(layers=16, width=1024, inner=2752),
}


def install_random_model(store: ModelStore, name: str, shape: RandomModel) -> StoredModel:
    """Puts it into the store, in the place of any former one of that name."""

    def build(folder: Path) -> Manifest:
        tokenizer, tokens = _tokenizer(shape.vocabulary)
        spec = _spec(shape)
        spec.register_vocabulary(tokens)
        spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = END
        spec.validate()
        spec.optimize(quantization=None)
        spec.save(str(folder))
        tokenizer.save(str(folder / TOKENISER_NAME), pretty=False)
        return Manifest(
            name=name,
            engine="ctranslate2",
            architecture="llama",
            context_length=shape.context_length,
            vocab_size=shape.vocabulary,
            end_token_ids=(shape.vocabulary - 1,),
            end_tokens=(END,),
            quantisation="int8",
            parameters=shape.layers * (4 * shape.width**2 + 3 * shape.width * shape.inner)
            + 2 * shape.vocabulary * shape.width,
            layers=shape.layers,
            heads=shape.heads,
            head_dim=HEAD_DIM,
            source="random",
            licence="none",
        )

    return store.install(name, build)


def _spec(shape: RandomModel) -> Any:
    rng = np.random.default_rng(7)
    spec = specs.TransformerDecoderModelSpec.from_config(
        shape.layers,
        shape.heads,
        activation=specs.Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=False,
    )
    decoder: Any = spec.decoder
    decoder.scale_embeddings = False

    def fill(layer: Any, rows: int, columns: int) -> None:
        layer.weight = rng.integers(-127, 128, (rows, columns), dtype=np.int8)
        # No two arrays are equal: the engine's own search for tied weights would take them for one.
        layer.weight_scale = (rng.uniform(0.9, 1.1, rows) * 127 * columns**0.5 / 2).astype(np.float32)

    def gamma() -> Any:
        return rng.uniform(0.9, 1.1, shape.width).astype(np.float32)

    fill(decoder.embeddings, shape.vocabulary, shape.width)
    fill(decoder.projection, shape.vocabulary, shape.width)
    decoder.layer_norm.gamma = gamma()
    for layer in decoder.layer:
        layer.self_attention.layer_norm.gamma = gamma()
        layer.ffn.layer_norm.gamma = gamma()
        fill(layer.self_attention.linear[0], 3 * shape.width, shape.width)
        fill(layer.self_attention.linear[1], shape.width, shape.width)
        fill(layer.ffn.linear_0, shape.inner, shape.width)
        fill(layer.ffn.linear_0_noact, shape.inner, shape.width)
        fill(layer.ffn.linear_1, shape.width, shape.inner)
    return spec


def _tokenizer(vocabulary: int) -> tuple[Tokenizer, list[str]]:
    """The bytes, tokens that no text has, and the end token last."""
    tokens = list(byte_alphabet())
    tokens += [f"unused{i}" for i in range(vocabulary - len(tokens) - 1)]
    tokenizer = Tokenizer(BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return tokenizer, [*tokens, END]


if __name__ == "__main__":
    for wanted in sys.argv[2:]:
        print(install_random_model(ModelStore(Path(sys.argv[1])), wanted, MODELS[wanted]).path)
