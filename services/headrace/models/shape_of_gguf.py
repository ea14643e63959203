"""The shape of a model in a GGUF file, of any architecture: by its metadata, so that nothing is de-quantised."""

from __future__ import annotations

from math import prod
from pathlib import Path

from headrace.models.errors import BadGguf
from headrace.models.gguf_file import GgufFile
from headrace.models.network_shape import NetworkShape

_EMBEDDINGS = "token_embd.weight"


def shape_of_gguf(path: Path) -> NetworkShape:
    """That of the model in the file. Whether it can be imported is another question. Raises BadGguf."""
    file = GgufFile(path)
    own = file.get("general.architecture", str)
    heads = _positive(file, f"{own}.attention.head_count")
    width = _positive(file, f"{own}.embedding_length")
    return NetworkShape(
        layers=_positive(file, f"{own}.block_count"),
        width=width,
        inner=_positive(file, f"{own}.feed_forward_length", 4 * width),
        heads=heads,
        head_dim=_positive(file, f"{own}.attention.key_length", max(1, width // heads)),
        vocabulary=file.shape(_EMBEDDINGS)[0],
        parameters=sum(prod(file.shape(name)) for name in file.tensor_names),
        context_length=file.get(f"{own}.context_length", int, 0),
    )


def _positive(file: GgufFile, key: str, default: int | None = None) -> int:
    value = file.get(key, int, default)
    if value < 1:
        raise BadGguf(file.path, f"{key!r} is {value}")
    return value
