"""A GGUF file (Llama family) into a model folder that CTranslate2 and `headrace.models.tokeniser` read. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace.models.gguf_file import GgufFile
from headrace.models.llama_weights import LlamaShape, Quantisation, TensorProgress, build_spec, read_shape
from headrace.models.manifest import Manifest
from headrace.models.tokeniser import TOKENISER_NAME
from headrace.models.vocabulary import Vocabulary, read_vocabulary


def import_gguf(
    path: Path,
    folder: Path,
    *,
    name: str,
    source: str,
    licence: str,
    progress: TensorProgress,
    quantisation: Quantisation = "int8",
) -> Manifest:
    """Converts the file at `path` into `folder` (which exists) and says what it is. Raises BadGguf, UnsupportedModel.

    What the file is, is checked before anything is computed. Memory: the quantised weights, and one matrix as float32.
    """
    file = GgufFile(path)
    shape = read_shape(file)
    vocabulary = read_vocabulary(file)
    spec = build_spec(file, shape, quantisation, progress)
    _save(spec, vocabulary, folder)
    vocabulary.tokenizer.save(str(folder / TOKENISER_NAME), pretty=False)
    return _manifest(
        file, shape, vocabulary, name=name, source=source, licence=licence, quantisation=quantisation
    )


def _save(spec: Any, vocabulary: Vocabulary, folder: Path) -> None:
    spec.register_vocabulary(vocabulary.tokens)
    end = vocabulary.end_ids[0]
    spec.config.bos_token = vocabulary.text(end if vocabulary.bos_id is None else vocabulary.bos_id)
    spec.config.eos_token = vocabulary.text(end)
    spec.config.unk_token = vocabulary.text(vocabulary.unknown_id)
    spec.validate()
    spec.optimize(quantization=None)  # only finds tied weights: they are quantised already
    spec.save(str(folder))


def _manifest(
    file: GgufFile,
    shape: LlamaShape,
    vocabulary: Vocabulary,
    *,
    name: str,
    source: str,
    licence: str,
    quantisation: str,
) -> Manifest:
    template = "tokenizer.chat_template"
    return Manifest(
        name=name,
        engine="ctranslate2",
        architecture="llama",
        context_length=shape.context_length,
        vocab_size=shape.vocabulary,
        end_token_ids=vocabulary.end_ids,
        end_tokens=tuple(vocabulary.text(i) for i in vocabulary.end_ids),
        bos_token_id=vocabulary.bos_id,
        bos_token=vocabulary.text(vocabulary.bos_id),
        add_bos=vocabulary.add_bos,
        chat_template=file.get(template, str) if file.has(template) else None,
        quantisation=quantisation,
        parameters=_parameters(file),
        layers=shape.layers,
        heads=shape.heads,
        head_dim=shape.head_dim,
        source=source,
        licence=licence,
    )


def _parameters(file: GgufFile) -> int:
    total = 0
    for tensor in file.tensor_names:
        count = 1
        for n in file.shape(tensor):
            count *= n
        total += count
    return total
