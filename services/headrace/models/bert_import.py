"""A BERT that embeds, as sentence-transformers keeps it, into a model folder that CTranslate2 reads. No torch.

What is read: `config.json`, `model.safetensors`, `tokenizer.json`, and, where they are there, `1_Pooling/config.json`,
`modules.json` and `sentence_bert_config.json`, which say how the vectors of the tokens become one of the text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ctranslate2 import specs
from ctranslate2.specs import common_spec, transformer_spec
from tokenizers import Tokenizer

from headrace.models.bert_config import (
    END,
    START,
    UNKNOWN,
    BertShape,
    read_context,
    read_json,
    read_pooling,
    read_shape,
    read_tokenizer,
)
from headrace.models.errors import UnsupportedModel
from headrace.models.manifest import Manifest
from headrace.models.safetensors_file import SafetensorsFile
from headrace.models.tokeniser import TOKENISER_NAME

FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)
"""All that is read of the source folder; the first three are needed."""

Quantisation = Literal["float32", "int8"]
TensorProgress = Callable[[int, int], None]
"""Called with (layers done, all)."""


def import_bert(
    source_folder: Path,
    folder: Path,
    *,
    name: str,
    source: str,
    licence: str,
    progress: TensorProgress,
    quantisation: Quantisation = "float32",
) -> Manifest:
    """Converts what is in `source_folder` into `folder` (which exists) and says what it is.

    Raises BadModelFile, UnsupportedModel.
    """
    config = read_json(source_folder / "config.json", name)
    shape = read_shape(config, name)
    pooling, normalise = read_pooling(source_folder, name)
    tokenizer = read_tokenizer(source_folder / "tokenizer.json", name, shape)
    file = SafetensorsFile(source_folder / "model.safetensors")
    if shape.layers > len(file.names):
        raise UnsupportedModel(
            name, f"config.json says {shape.layers} layers, and it has {len(file.names)} tensors"
        )
    spec = _spec(file, shape, progress)
    spec.register_vocabulary(_tokens(tokenizer))
    spec.config.unk_token = UNKNOWN
    spec.config.layer_norm_epsilon = shape.epsilon
    spec.validate()
    spec.optimize(quantization=None if quantisation == "float32" else quantisation)
    spec.save(str(folder))
    tokenizer.save(str(folder / TOKENISER_NAME), pretty=False)
    return Manifest(
        name=name,
        task="embed",
        engine="ctranslate2",
        architecture="bert",
        context_length=read_context(source_folder, shape, name),
        vocab_size=shape.vocabulary,
        end_token_ids=(_tokens(tokenizer).index(END),),
        end_tokens=(END,),
        source_prefix=(START,),
        source_suffix=(END,),
        pooling=pooling,
        normalise=normalise,
        quantisation=quantisation,
        parameters=sum(
            int(np.prod(file.shape(tensor))) for tensor in file.names if "position_ids" not in tensor
        ),
        layers=shape.layers,
        heads=shape.heads,
        head_dim=shape.width // shape.heads,
        source=source,
        licence=licence,
    )


def _tokens(tokenizer: Tokenizer) -> list[str]:
    by_id = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    return [token for token, _ in by_id]


def _spec(file: SafetensorsFile, shape: BertShape, progress: TensorProgress) -> Any:
    spec: Any = specs.TransformerEncoderModelSpec(
        transformer_spec.TransformerEncoderSpec(
            shape.layers,
            shape.heads,
            pre_norm=False,
            activation=shape.activation,
            layernorm_embedding=True,
            num_source_embeddings=2,
            embeddings_merge=common_spec.EmbeddingsMerge.ADD,
        )
    )
    prefix = "bert." if any(tensor.startswith("bert.") for tensor in file.names) else ""
    weights = _Weights(file, prefix, shape)
    encoder = spec.encoder
    encoder.scale_embeddings = False
    embedded = "embeddings."
    encoder.embeddings[0].weight = weights.matrix(f"{embedded}word_embeddings.weight", shape.vocabulary)
    encoder.embeddings[1].weight = weights.matrix(f"{embedded}token_type_embeddings.weight", shape.types)
    encoder.position_encodings.encodings = weights.matrix(
        f"{embedded}position_embeddings.weight", shape.positions
    )
    weights.norm(encoder.layernorm_embedding, f"{embedded}LayerNorm")
    for number, layer in enumerate(encoder.layer):
        weights.layer(layer, f"encoder.layer.{number}.")
        progress(number + 1, shape.layers)
    return spec


@dataclass(frozen=True, slots=True)
class _Weights:
    """Tensors into the places of a specification."""

    file: SafetensorsFile
    prefix: str
    shape: BertShape

    def matrix(self, name: str, rows: int) -> Any:
        return self.file.tensor(self.prefix + name, (rows, self.shape.width))

    def norm(self, place: Any, name: str) -> None:
        place.gamma = self.file.tensor(f"{self.prefix}{name}.weight", (self.shape.width,))
        place.beta = self.file.tensor(f"{self.prefix}{name}.bias", (self.shape.width,))

    def linear(self, place: Any, names: tuple[str, ...], rows: int, columns: int) -> None:
        """Several are put one below the other, as one product."""
        place.weight = np.concatenate(
            [self.file.tensor(f"{self.prefix}{name}.weight", (rows, columns)) for name in names]
        )
        place.bias = np.concatenate(
            [self.file.tensor(f"{self.prefix}{name}.bias", (rows,)) for name in names]
        )

    def layer(self, place: Any, name: str) -> None:
        width, inner, attention = self.shape.width, self.shape.inner, place.self_attention
        parts = tuple(f"{name}attention.self.{part}" for part in ("query", "key", "value"))
        self.linear(attention.linear[0], parts, width, width)
        self.linear(attention.linear[1], (f"{name}attention.output.dense",), width, width)
        self.norm(attention.layer_norm, f"{name}attention.output.LayerNorm")
        self.linear(place.ffn.linear_0, (f"{name}intermediate.dense",), inner, width)
        self.linear(place.ffn.linear_1, (f"{name}output.dense",), width, inner)
        self.norm(place.ffn.layer_norm, f"{name}output.LayerNorm")
