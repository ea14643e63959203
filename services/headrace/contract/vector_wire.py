"""Vectors to protobuf's Embedding and back, without making a Python number of any of theirs.

A packed repeated float is, on the wire, its length and then the numbers as 32-bit floats, little-endian: just what a
Vector is. So an Embedding is a Vector behind a tag and a length.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from headrace.contract.values import Vector
from headrace.v1 import common_pb2 as pb

_TAG = bytes([pb.Embedding.VALUES_FIELD_NUMBER << 3 | 2])
"""Field number and wire type: what follows is a length and so many bytes."""


class Embeddings(Protocol):
    """A repeated field of them."""

    def add(self) -> pb.Embedding: ...


def add_vectors(field: Embeddings, vectors: Iterable[Vector]) -> None:
    """Adds an Embedding for each."""
    for vector in vectors:
        field.add().MergeFromString(_TAG + _varint(len(vector)) + vector)


def decode_vector(message: pb.Embedding) -> Vector:
    """The vector of an Embedding; empty where it has no numbers."""
    encoded = message.SerializeToString()
    if not encoded.startswith(_TAG):
        return b""
    at = 1
    while encoded[at] & 0x80:
        at += 1
    return encoded[at + 1 :]


def _varint(number: int) -> bytes:
    """`number` in groups of seven bits, the lowest first; all but the last have the eighth bit set."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
