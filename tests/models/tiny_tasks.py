"""Real models of random weights for the tasks besides generate: an encoder like BERT, and an encoder-decoder like
Marian. What they say means nothing; what is made of it has to be exact.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2 import specs
from ctranslate2.specs import transformer_spec
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from headrace.models.manifest import TARGET_LANGUAGE, Manifest
from headrace.models.store import ModelStore, StoredModel
from headrace.models.token_bytes import byte_alphabet
from headrace.models.tokeniser import TOKENISER_NAME

LAYERS, HEADS, WIDTH, INNER, CONTEXT = 2, 4, 32, 64, 128
START, END, FRENCH, GERMAN = "<s>", "</s>", ">>fra<<", ">>deu<<"


def install_tiny_encoder(store: ModelStore, name: str = "tiny-bert", pooling: Any = "mean") -> StoredModel:
    """Puts an encoder into the store, of vectors of WIDTH numbers and length 1."""

    def build(folder: Path) -> Manifest:
        rng = np.random.default_rng(11)
        tokenizer, tokens = _tokenizer()
        spec: Any = specs.TransformerEncoderModelSpec(
            transformer_spec.TransformerEncoderSpec(
                LAYERS, HEADS, pre_norm=False, activation=specs.Activation.GELU, layernorm_embedding=True
            )
        )
        spec.encoder.scale_embeddings = False
        spec.encoder.embeddings[0].weight = _matrix(rng, len(tokens), WIDTH)
        spec.encoder.position_encodings.encodings = _matrix(rng, CONTEXT, WIDTH)
        _norm(rng, spec.encoder.layernorm_embedding)
        for layer in spec.encoder.layer:
            _attention(rng, layer.self_attention, (3 * WIDTH, WIDTH))
            _feed_forward(rng, layer.ffn)
        spec.register_vocabulary(tokens)
        spec.config.unk_token = END
        spec.config.layer_norm_epsilon = 1e-12
        _save(spec, tokenizer, folder)
        return _manifest(
            name,
            tokens,
            task="embed",
            architecture="bert",
            source_prefix=(START,),
            source_suffix=(END,),
            pooling=pooling,
            normalise=True,
        )

    return store.install(name, build)


def install_tiny_translator(store: ModelStore, name: str = "tiny-marian") -> StoredModel:
    """Puts an encoder-decoder into the store, which translates into "fra" and "deu"."""

    def build(folder: Path) -> Manifest:
        rng = np.random.default_rng(13)
        tokenizer, tokens = _tokenizer()
        spec: Any = specs.TransformerSpec.from_config(
            (LAYERS, LAYERS), HEADS, pre_norm=False, activation=specs.Activation.SWISH
        )
        for side in (spec.encoder, spec.decoder):
            side.position_encodings.encodings = _matrix(rng, CONTEXT, WIDTH)
        spec.encoder.embeddings[0].weight = _matrix(rng, len(tokens), WIDTH)
        spec.decoder.embeddings.weight = _matrix(rng, len(tokens), WIDTH)
        _linear(rng, spec.decoder.projection, len(tokens), WIDTH)
        for layer in spec.encoder.layer:
            _attention(rng, layer.self_attention, (3 * WIDTH, WIDTH))
            _feed_forward(rng, layer.ffn)
        for layer in spec.decoder.layer:
            _attention(rng, layer.self_attention, (3 * WIDTH, WIDTH))
            _attention(rng, layer.attention, (WIDTH, 2 * WIDTH, WIDTH))
            _feed_forward(rng, layer.ffn)
        spec.register_source_vocabulary(tokens)
        spec.register_target_vocabulary(tokens)
        spec.config.bos_token = spec.config.decoder_start_token = START
        spec.config.eos_token = spec.config.unk_token = END
        _save(spec, tokenizer, folder)
        return _manifest(
            name,
            tokens,
            task="translate",
            architecture="marian",
            source_suffix=(END,),
            target_prefix=(TARGET_LANGUAGE,),
            languages={"fra": FRENCH, "deu": GERMAN},
        )

    return store.install(name, build)


def _manifest(name: str, tokens: list[str], **what: Any) -> Manifest:
    return Manifest(
        name=name,
        engine="ctranslate2",
        context_length=CONTEXT,
        vocab_size=len(tokens),
        end_token_ids=(tokens.index(END),),
        end_tokens=(END,),
        quantisation="float32",
        parameters=0,
        source="random",
        licence="none",
        **what,
    )


def _save(spec: Any, tokenizer: Tokenizer, folder: Path) -> None:
    spec.validate()
    spec.optimize(quantization=None)
    spec.save(str(folder))
    tokenizer.save(str(folder / TOKENISER_NAME), pretty=False)


def _matrix(rng: np.random.Generator, rows: int, columns: int) -> Any:
    return rng.normal(0, 1, (rows, columns)).astype(np.float32)


def _linear(rng: np.random.Generator, layer: Any, rows: int, columns: int) -> None:
    layer.weight = _matrix(rng, rows, columns) / np.float32(columns**0.5)
    layer.bias = rng.normal(0, 0.1, rows).astype(np.float32)


def _norm(rng: np.random.Generator, layer: Any) -> None:
    layer.gamma = rng.uniform(0.9, 1.1, WIDTH).astype(np.float32)
    layer.beta = rng.normal(0, 0.1, WIDTH).astype(np.float32)


def _attention(rng: np.random.Generator, layer: Any, rows: tuple[int, ...]) -> None:
    for linear, count in zip(layer.linear, rows, strict=True):
        _linear(rng, linear, count, WIDTH)
    _norm(rng, layer.layer_norm)


def _feed_forward(rng: np.random.Generator, layer: Any) -> None:
    _linear(rng, layer.linear_0, INNER, WIDTH)
    _linear(rng, layer.linear_1, WIDTH, INNER)
    _norm(rng, layer.layer_norm)


def _tokenizer() -> tuple[Tokenizer, list[str]]:
    """The bytes, and after them what goes around a text."""
    tokens = list(byte_alphabet())
    tokenizer = Tokenizer(BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [START, END, FRENCH, GERMAN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer, [*tokens, *special]
