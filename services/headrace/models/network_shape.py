"""The numbers that fix what a network costs: memory and time follow from them, whatever it was trained on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    """A decoder. Each number is at least 1, but where 0 is said to mean that it is not known."""

    layers: int
    width: int
    """Numbers that a token is, between two layers."""
    inner: int
    """Numbers that it is inside a layer's feed-forward part."""
    heads: int
    """Of a query. Keys and values count as many: the engine copies those that several heads share before it keeps
    them."""
    head_dim: int
    vocabulary: int
    parameters: int
    """All weights, with embeddings and projection counted once where they are one."""
    context_length: int = 0
    """Tokens of prompt and output together; 0 = not known."""
    stored: str = ""
    """The number format of the weights on disk, such as `int8`; "" where there are none yet."""
    assumed: str = ""
    """What of this nobody said, in words for a person; "" = nothing."""


def count_parameters(
    *, layers: int, width: int, inner: int, heads: int, kv_heads: int, head_dim: int, vocabulary: int
) -> int:
    """The weights of a Llama-like network (gated feed-forward part), whose projection is not its embeddings."""
    attention = width * head_dim * (2 * heads + 2 * kv_heads)
    return layers * (attention + 3 * width * inner) + 2 * vocabulary * width
