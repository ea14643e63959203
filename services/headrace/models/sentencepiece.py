"""SentencePiece vocabularies as `tokenizers` tokenisers, wherever their pieces come from.

A piece writes a space as `▁` (U+2581). BPE merges the neighbours whose piece has the best score; unigram picks the
pieces whose scores add up to most. What neither knows is spelled in bytes, where the vocabulary has them, else unknown.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tokenizers import AddedToken, Tokenizer, decoders
from tokenizers.models import BPE, Unigram

from headrace.models.text_rules import SPACE, text_rules


class PieceKind(enum.IntEnum):
    """SentencePiece's, and also `tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Piece(NamedTuple):
    """One token of a vocabulary."""

    text: str
    score: float
    kind: PieceKind = PieceKind.NORMAL


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceModel:
    """What a `.model` file says."""

    pieces: Sequence[Piece]
    unigram: bool
    charsmap: bytes = b""
    """SentencePiece's compiled table of characters to replace; empty for none."""
    leading_space: bool = True
    squeeze_spaces: bool = True
    """Whether spaces at the ends go, and several become one."""


def tokeniser_of(model: PieceModel) -> Tokenizer:
    """The tokeniser that `model` describes; its ids are the places of its pieces."""
    if model.unigram:
        return piece_unigram(model)
    return piece_bpe(
        model.pieces,
        leading_space=model.leading_space,
        charsmap=model.charsmap,
        squeeze_spaces=model.squeeze_spaces,
    )


def piece_bpe(
    pieces: Sequence[Piece], *, leading_space: bool, charsmap: bytes = b"", squeeze_spaces: bool = False
) -> Tokenizer:
    """SentencePiece's BPE. `leading_space`: a text begins with a space that is not its own."""
    unknown = next((piece.text for piece in pieces if piece.kind == PieceKind.UNKNOWN), None)
    with_bytes = any(piece.kind == PieceKind.BYTE for piece in pieces)
    tokenizer = Tokenizer(
        BPE(
            vocab={piece.text: i for i, piece in enumerate(pieces)},
            merges=list(_merges(pieces)),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=with_bytes,
        )
    )
    tokenizer.normalizer = text_rules(charsmap, squeeze_spaces=squeeze_spaces, leading_space=leading_space)
    tokenizer.decoder = _decoder(leading_space)
    _add_tokens(tokenizer, pieces)
    return tokenizer


def piece_unigram(model: PieceModel) -> Tokenizer:
    """SentencePiece's unigram."""
    pieces = model.pieces
    unknown = next((i for i, piece in enumerate(pieces) if piece.kind == PieceKind.UNKNOWN), None)
    tokenizer = Tokenizer(
        Unigram(
            [(piece.text, piece.score) for piece in pieces],
            unk_id=unknown,
            byte_fallback=any(piece.kind == PieceKind.BYTE for piece in pieces),
        )
    )
    tokenizer.normalizer = text_rules(
        model.charsmap, squeeze_spaces=model.squeeze_spaces, leading_space=model.leading_space
    )
    tokenizer.decoder = _decoder(model.leading_space)
    _add_tokens(tokenizer, pieces)
    return tokenizer


def _decoder(leading_space: bool) -> decoders.Decoder:
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if leading_space:
        steps.append(decoders.Strip(content=" ", left=1, right=0))
    return decoders.Sequence(steps)


def _add_tokens(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> None:
    control = (PieceKind.CONTROL, PieceKind.UNKNOWN)
    special = [piece.text for piece in pieces if piece.kind in control]
    plain = [piece.text for piece in pieces if piece.kind == PieceKind.USER_DEFINED]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in plain])


def _merges(pieces: Sequence[Piece]) -> Iterator[tuple[str, str]]:
    """All pairs of pieces that make a piece, the best first: what SentencePiece decides at each merge.

    Of the pairs that make the same piece, the one whose parts come first in the vocabulary goes first.
    """
    mergeable = (PieceKind.NORMAL, PieceKind.UNUSED)
    ids = {piece.text: i for i, piece in enumerate(pieces) if piece.kind in mergeable}
    by_score = sorted(ids, key=lambda text: (-pieces[ids[text]].score, ids[text]))
    for text in by_score:
        halves = ((text[:n], text[n:]) for n in range(1, len(text)))
        pairs = [(left, right) for left, right in halves if left in ids and right in ids]
        yield from sorted(pairs, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
