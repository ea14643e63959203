"""A SentencePiece `.model` file: a protobuf message, of which a few fields matter here."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from headrace.models.character_map import CharacterMap
from headrace.models.errors import BadTokeniser
from headrace.models.sentencepiece import Piece, PieceKind, PieceModel


def read_piece_model(path: Path) -> PieceModel:
    """The SentencePiece model in the file. Raises BadTokeniser."""
    try:
        return _parse_model(path.read_bytes())
    except OSError as error:
        raise BadTokeniser(path, error.strerror or str(error)) from error
    except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
        raise BadTokeniser(path, "not a SentencePiece model, or a damaged one") from error


# The fields of sentencepiece_model.proto that matter here.
_PIECES, _TRAINER, _NORMALISER = 1, 2, 3
_PIECE_TEXT, _PIECE_SCORE, _PIECE_KIND = 1, 2, 3
_MODEL_TYPE, _SPACE_BEHIND = 3, 24
_CHARSMAP, _DUMMY_PREFIX, _REMOVE_SPACES, _SPACES_WRITTEN = 2, 3, 4, 5
_UNIGRAM, _BPE = 1, 2


def _parse_model(data: bytes) -> PieceModel:
    pieces = []
    trainer: Mapping[int, int | bytes] = {}
    normaliser: Mapping[int, int | bytes] = {}
    for number, value in _fields(data):
        if number == _PIECES:
            pieces.append(_parse_piece(dict(_fields(_bytes(value)))))
        elif number == _TRAINER:
            trainer = dict(_fields(_bytes(value)))
        elif number == _NORMALISER:
            normaliser = dict(_fields(_bytes(value)))
    kind = trainer.get(_MODEL_TYPE, _UNIGRAM)
    if not pieces or kind not in (_UNIGRAM, _BPE):
        raise ValueError("no pieces, or of a kind that is not known")
    if trainer.get(_SPACE_BEHIND, 0) or not normaliser.get(_SPACES_WRITTEN, 1):
        raise ValueError("spaces are written in a way that is not known")
    charsmap = _bytes(normaliser.get(_CHARSMAP, b""))
    CharacterMap(charsmap)  # a damaged one is found here
    return PieceModel(
        pieces=pieces,
        unigram=kind == _UNIGRAM,
        charsmap=charsmap,
        leading_space=bool(normaliser.get(_DUMMY_PREFIX, 1)),
        squeeze_spaces=bool(normaliser.get(_REMOVE_SPACES, 1)),
    )


def _parse_piece(fields: Mapping[int, int | bytes]) -> Piece:
    (score,) = struct.unpack("<f", _bytes(fields.get(_PIECE_SCORE, bytes(4))))
    number = fields.get(_PIECE_KIND, PieceKind.NORMAL)
    if isinstance(number, bytes):
        raise TypeError("bytes where a number should be")
    kind = PieceKind(number)
    return Piece(_bytes(fields[_PIECE_TEXT]).decode(), score, kind)


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("a number where bytes should be")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The (field number, value) of a protobuf message; fixed-width values as their bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        else:
            size = {1: 8, 5: 4}[wire]
        if at + size > len(data):
            raise ValueError("it ends too early")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number that is too long")
