"""A GGUF file into a model folder that CTranslate2 and `headrace.models.tokeniser` read. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace.models.errors import BadGguf
from headrace.models.gguf_decoders import build_spec
from headrace.models.gguf_file import GgufFile
from headrace.models.gguf_shape import DecoderShape, read_shape
from headrace.models.gguf_tensors import Quantisation, TensorProgress, TensorSource
from headrace.models.manifest import Manifest
from headrace.models.template_check import check_template
from headrace.models.tokeniser import TOKENISER_NAME
from headrace.models.tokeniser_check import check_tokeniser
from headrace.models.vocabulary import Vocabulary, read_vocabulary

_TEMPLATE = "tokenizer.chat_template"


def import_gguf(
    path: Path,
    folder: Path,
    *,
    name: str,
    source: str,
    licence: str,
    progress: TensorProgress,
    quantisation: Quantisation = "int8",
    with_template: bool = True,
) -> Manifest:
    """Converts the file at `path` into `folder` (which exists) and says what it is. Raises BadGguf, UnsupportedModel,
    BadTemplate.

    What the file is, is checked before anything is computed. Memory: one tensor, quantised, and the vocabulary.
    """
    file = GgufFile(path)
    shape = read_shape(file)
    vocabulary = read_vocabulary(file)
    if len(vocabulary.tokens) != shape.vocabulary:
        reason = f"its vocabulary has {len(vocabulary.tokens)} tokens and its embeddings {shape.vocabulary}"
        raise BadGguf(path, reason)
    try:
        check_tokeniser(vocabulary.tokenizer)
    except ValueError as error:
        raise BadGguf(path, f"its vocabulary is damaged: {error}") from error
    template = file.get(_TEMPLATE, str) if with_template and file.has(_TEMPLATE) else None
    check_template(template, vocabulary.text(vocabulary.bos_id), vocabulary.text(vocabulary.end_ids[0]))
    spec = build_spec(TensorSource(file, quantisation, progress), shape)
    _save(spec, vocabulary, folder)
    vocabulary.tokenizer.save(str(folder / TOKENISER_NAME), pretty=False)
    return _manifest(
        file,
        shape,
        vocabulary,
        template,
        name=name,
        source=source,
        licence=licence,
        quantisation=quantisation,
    )


def _save(spec: Any, vocabulary: Vocabulary, folder: Path) -> None:
    spec.register_vocabulary(vocabulary.tokens)
    end = vocabulary.end_ids[0]
    spec.config.bos_token = vocabulary.text(end if vocabulary.bos_id is None else vocabulary.bos_id)
    spec.config.eos_token = vocabulary.text(end)
    spec.config.unk_token = vocabulary.text(vocabulary.unknown_id)
    spec.validate()
    spec.optimize(quantization=None)  # only finds tied weights: they come quantised
    spec.save(str(folder))


def _manifest(
    file: GgufFile,
    shape: DecoderShape,
    vocabulary: Vocabulary,
    template: str | None,
    *,
    name: str,
    source: str,
    licence: str,
    quantisation: str,
) -> Manifest:
    return Manifest(
        name=name,
        engine="ctranslate2",
        architecture=shape.architecture,
        context_length=shape.context_length,
        vocab_size=shape.vocabulary,
        end_token_ids=vocabulary.end_ids,
        end_tokens=tuple(vocabulary.text(i) for i in vocabulary.end_ids),
        bos_token_id=vocabulary.bos_id,
        bos_token=vocabulary.text(vocabulary.bos_id),
        add_bos=vocabulary.add_bos,
        chat_template=template,
        quantisation=quantisation,
        parameters=file.weights,
        layers=shape.layers,
        heads=shape.heads,
        head_dim=shape.head_dim,
        source=source,
        licence=licence if licence != "unknown" else file.get("general.license", str, "unknown"),
    )
