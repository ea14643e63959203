"""The shape of a converted model: of one in the store, or of a folder that the engine reads."""

from __future__ import annotations

from pathlib import Path

from headrace.models.engine_file import EngineFile, Stored, read_engine_file
from headrace.models.errors import BadModelFile, UnsupportedModel
from headrace.models.manifest import Manifest
from headrace.models.network_shape import NetworkShape
from headrace.models.store import StoredModel

_FIRST = "decoder/layer_0"


def shape_of_stored(model: StoredModel) -> NetworkShape:
    """That of a model in the store. Raises BadModelFile, or UnsupportedModel for one without a network of its own."""
    if model.manifest.engine != "ctranslate2":
        raise UnsupportedModel(model.name, "it has no weights, so there is nothing to plan")
    return shape_of_folder(model.path, context_length=model.manifest.context_length)


def shape_of_folder(folder: Path, *, context_length: int = 0) -> NetworkShape:
    """That of the `model.bin` in `folder`, which does not say the context length. Raises BadModelFile,
    UnsupportedModel.
    """
    found = read_engine_file(folder)
    if found.task != "generate":
        raise UnsupportedModel(str(folder), "it has an encoder; plans are for models that generate")
    if not (layers := found.layers("decoder")):
        raise UnsupportedModel(str(folder), "it has no decoder")
    embeddings = _matrix(found, "decoder/embeddings/weight")
    heads = _heads(found)
    output = _matrix(found, f"{_FIRST}/self_attention/linear_1/weight")
    return NetworkShape(
        layers=layers,
        width=embeddings.shape[1],
        inner=_matrix(found, f"{_FIRST}/ffn/linear_0/weight").shape[0],
        heads=heads,
        head_dim=max(1, output.shape[1] // heads),
        vocabulary=embeddings.shape[0],
        parameters=found.parameters,
        context_length=context_length,
        stored=embeddings.type,
    )


def shape_of_manifest(manifest: Manifest) -> NetworkShape:
    """What a manifest alone says, for a model whose files are elsewhere: the width is that of its heads, and the inner
    one is what the parameters leave. Raises UnsupportedModel where it has no network.
    """
    layers, heads, head_dim = manifest.layers, manifest.heads, manifest.head_dim
    if not (layers and heads and head_dim and manifest.parameters):
        raise UnsupportedModel(manifest.name, "its manifest does not say how large its network is")
    width = heads * head_dim
    left = (manifest.parameters - manifest.vocab_size * width) / layers - 4 * width**2
    return NetworkShape(
        layers=layers,
        width=width,
        inner=max(width, round(left / (3 * width))),
        heads=heads,
        head_dim=head_dim,
        vocabulary=manifest.vocab_size,
        parameters=manifest.parameters,
        context_length=manifest.context_length,
        stored=manifest.quantisation,
    )


def _matrix(found: EngineFile, name: str) -> Stored:
    variable = found.variables.get(name)
    if variable is None or len(variable.shape) != 2 or not all(variable.shape):
        raise BadModelFile(found.path, f"it has no matrix {name!r}")
    return variable


def _heads(found: EngineFile) -> int:
    heads = found.number("decoder/num_heads")
    if heads is None or heads < 1:
        raise BadModelFile(found.path, "it does not say how many heads it has")
    return heads
