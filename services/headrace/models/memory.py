"""How much memory a model takes while it runs, told beforehand: of a process on a CPU, of the card on a GPU.

What was measured of CTranslate2 on CPUs, and stands in the constants: lanes share the weights, whose form is that of
the compute type, not of the file; while they load, all are there as they are stored. Keys and values are kept in
float32 for every head of the queries. A lane that has run keeps its memory, so every lane that is used counts with the
largest batch that it ran. The engine frees and takes buffers of many sizes, and holes between them stay, one for each
array of keys or values. In a prefill all scores of one layer are there at once, a number for each head and pair of
tokens.

On a GPU the constants are estimates: nobody has measured them.

`headrace plan` and the worker, which refuses before it loads, both ask here.
"""

from __future__ import annotations

from dataclasses import dataclass

from headrace.models.network_shape import NetworkShape

_WEIGHT_BYTES = {"int8": 1, "int16": 2, "float16": 2, "bfloat16": 2, "float32": 4}
"""By the first word of the compute type."""
_SCALE_BYTES = 4
"""With int8: for each row of a matrix."""
_HOLE_SHARE, _HOLE_BYTES, _MOST_HOLE_SHARE = 0.25, 800_000, 0.75
"""Beside each array of keys or values: a part of its size and so many bytes, at most so large a part."""
_INNER_COPIES = 1.5
"""Of a layer's inner numbers for all tokens of a prefill, at its peak."""
_ENGINE_BYTES = {"cpu": 23_000_000, "cuda": 500_000_000}
"""Taken with the first batch: the libraries' code and buffers; on a GPU also the driver's context."""
_LANE_SHARE = 0.25
"""Of the stored weights that a lane takes while it embeds or translates: seen were 0.25 to 0.4 with int8."""
DEFAULT_CONTEXT = 1024
"""Tokens of a request that are reckoned with, where the model has room for them."""
_TOKEN_BYTES = 1_150
"""Of the process for each token of the vocabulary: tokeniser, strings, and what a batch makes of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """Bytes that a model takes beside what the process has without it."""

    weights: int
    """Once, whatever the lanes."""
    kv: int
    """Keys and values of all lanes with full batches."""
    overhead: int
    """The buffers of all lanes, the holes between them, the engine's code and the tokeniser."""

    loading: int = 0
    """Before all that, while the weights are still as they are stored; 0 where that is not known, or elsewhere."""

    @property
    def total(self) -> int:
        """At its peak."""
        return max(self.weights + self.kv + self.overhead, self.loading)


def needed_bytes(
    shape: NetworkShape,
    compute_type: str,
    lanes: int,
    max_batch: int,
    context: int,
    *,
    prompt: int | None = None,
    device: str = "cpu",
) -> MemoryNeed:
    """What `shape` takes as `compute_type` on a "cpu" or "cuda" `device`, once each of `lanes` lanes has run a batch of
    `max_batch` entries that reach `context` tokens, with prompts of `prompt` tokens (None: that fill the context, which
    takes the most). Raises ValueError for a compute type that there is not.
    """
    entries = lanes * max_batch
    number = float_bytes(compute_type, device)
    arrays = 2 * shape.layers * lanes
    array = max_batch * context * shape.heads * shape.head_dim * number
    hole = min(_HOLE_SHARE * array + _HOLE_BYTES, _MOST_HOLE_SHARE * array)
    tokens = context if prompt is None else min(prompt, context)
    scores = entries * shape.heads * tokens**2 * number
    inner = entries * tokens * shape.inner * number
    process = 0 if device == "cuda" else shape.vocabulary * _TOKEN_BYTES
    return MemoryNeed(
        weights=weight_bytes(shape, compute_type, device),
        kv=arrays * array,
        overhead=round(arrays * hole + scores + _INNER_COPIES * inner) + _ENGINE_BYTES[device] + process,
        loading=0 if device == "cuda" else shape.parameters * _WEIGHT_BYTES.get(shape.stored, 0),
    )


def planned_lengths(
    context_length: int, context: int | None = None, prompt: int | None = None
) -> tuple[int, int]:
    """Context and prompt of the requests that are reckoned with, of a model of that context length (0: not known), but
    where they are said.
    """
    whole = context or min(DEFAULT_CONTEXT, context_length or DEFAULT_CONTEXT)
    return whole, min(prompt or max(1, whole // 2), whole)


def needed_by_files(
    stored_bytes: int, stored: str, compute_type: str, lanes: int, device: str = "cpu"
) -> MemoryNeed:
    """The same of a model whose shape says too little, as one that embeds or translates: by its weights of
    `stored_bytes` in the format `stored`. Formats that there are not count as they are.
    """
    width, before = _width(compute_type, device), _width(stored, "")
    weights = stored_bytes * width // before
    return MemoryNeed(
        weights=weights,
        kv=0,
        overhead=round(lanes * _LANE_SHARE * stored_bytes) + _ENGINE_BYTES[device],
        loading=stored_bytes if device == "cpu" else 0,
    )


def _width(kind: str, device: str) -> int:
    name = kind.partition("_")[0]
    return 4 if device == "cpu" and name in ("float16", "bfloat16") else _WEIGHT_BYTES.get(name, 1)


def weight_bytes(shape: NetworkShape, compute_type: str, device: str = "cpu") -> int:
    """The weights as they are computed with. Raises ValueError for a compute type that there is not."""
    kind = compute_type.partition("_")[0]
    if kind not in _WEIGHT_BYTES:
        raise ValueError(f"{compute_type!r} is no compute type: {', '.join(_WEIGHT_BYTES)}")
    if device == "cpu" and kind in ("float16", "bfloat16"):
        kind = "float32"  # what the engine falls back to there
    scales = shape.parameters // shape.width * _SCALE_BYTES if kind == "int8" else 0
    return shape.parameters * _WEIGHT_BYTES[kind] + scales


def kv_bytes_per_token(shape: NetworkShape, compute_type: str, device: str = "cpu") -> int:
    """Keys and values of one token of one entry, in all layers."""
    return 2 * shape.layers * shape.heads * shape.head_dim * float_bytes(compute_type, device)


def float_bytes(compute_type: str, device: str) -> int:
    """Of a number between the layers: 4 on a CPU, and 2 on a GPU where the compute type has a float of 16 bits, as
    `int8` has there by default.
    """
    half = compute_type == "int8" or compute_type.endswith("float16")
    return 2 if device == "cuda" and half else 4
