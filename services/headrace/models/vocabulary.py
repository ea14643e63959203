"""The vocabulary in a GGUF file's metadata as a `tokenizers` tokeniser: byte-level BPE, or SentencePiece's BPE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, decoders
from tokenizers.models import BPE

from headrace.models.errors import BadGguf, UnsupportedModel
from headrace.models.gguf_file import GgufFile
from headrace.models.sentencepiece import Piece, PieceKind, piece_bpe
from headrace.models.splitting import normaliser, pre_tokeniser
from headrace.models.text_rules import SPACE

_ENDS = {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<|end|>", "</s>", "<end_of_turn>"}
"""Control tokens that end a turn wherever a vocabulary has them, beside the one that it names as its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """A tokeniser, and which of its tokens mean begin, end and unknown."""

    tokenizer: Tokenizer
    tokens: Sequence[str]
    bos_id: int | None
    add_bos: bool
    end_ids: tuple[int, ...]
    unknown_id: int

    def text(self, token_id: int | None) -> str:
        return "" if token_id is None else self.tokens[token_id]


def read_vocabulary(file: GgufFile) -> Vocabulary:
    """The vocabulary of `file`. Raises UnsupportedModel for a kind that is not known, BadGguf for a broken one."""
    model = file.get("tokenizer.ggml.model", str)
    if model not in ("gpt2", "llama"):
        reason = f"tokeniser {model!r}; known are byte-level BPE ('gpt2') and SentencePiece's BPE ('llama')"
        raise UnsupportedModel(file.path.name, reason)
    tokens = file.get_list("tokenizer.ggml.tokens", str)
    _check_unique(file, tokens)
    kinds = file.get_list("tokenizer.ggml.token_type", int)
    if len(kinds) != len(tokens):
        raise BadGguf(file.path, f"{len(tokens)} tokens but {len(kinds)} token types")
    if model == "llama":
        # The makers' own tokens are written with spaces there, and looked for where a text's spaces are written as `▁`.
        own = PieceKind.USER_DEFINED
        tokens = [t.replace(" ", SPACE) if k == own else t for t, k in zip(tokens, kinds, strict=True)]
        _check_unique(file, tokens)
    end = _token_id(file, "tokenizer.ggml.eos_token_id", len(tokens))
    if end is None:
        raise BadGguf(file.path, "its vocabulary names no end token")
    unknown = _token_id(file, "tokenizer.ggml.unknown_token_id", len(tokens))
    others = (i for i, t in enumerate(tokens) if kinds[i] == PieceKind.CONTROL and t in _ENDS and i != end)
    sentencepiece = model == "llama"
    return Vocabulary(
        tokenizer=(_sentencepiece if sentencepiece else _byte_level_bpe)(file, tokens, kinds),
        tokens=tokens,
        bos_id=_token_id(file, "tokenizer.ggml.bos_token_id", len(tokens)),
        add_bos=file.get("tokenizer.ggml.add_bos_token", bool, sentencepiece),
        end_ids=(end, *others),
        unknown_id=end if unknown is None else unknown,
    )


def _check_unique(file: GgufFile, tokens: Sequence[str]) -> None:
    if len(set(tokens)) != len(tokens):
        raise BadGguf(file.path, "its vocabulary has a token twice")


def _token_id(file: GgufFile, key: str, size: int) -> int | None:
    if not file.has(key):
        return None
    if not 0 <= (token_id := file.get(key, int)) < size:
        raise BadGguf(file.path, f"{key!r} is {token_id}, outside the vocabulary of {size}")
    return token_id


def _sentencepiece(file: GgufFile, tokens: Sequence[str], kinds: Sequence[int]) -> Tokenizer:
    scores = file.get_list("tokenizer.ggml.scores", float)
    if len(scores) != len(tokens):
        raise BadGguf(file.path, f"{len(tokens)} tokens but {len(scores)} scores")
    try:
        pieces = [
            Piece(text, score, PieceKind(kind))
            for text, score, kind in zip(tokens, scores, kinds, strict=True)
        ]
    except ValueError as error:
        raise BadGguf(file.path, f"its vocabulary has a token of an unknown type ({error})") from error
    return piece_bpe(pieces, leading_space=file.get("tokenizer.ggml.add_space_prefix", bool, True))


def _byte_level_bpe(file: GgufFile, tokens: Sequence[str], kinds: Sequence[int]) -> Tokenizer:
    merges = []
    for merge in file.get_list("tokenizer.ggml.merges", str):
        left, _, right = merge.partition(" ")
        merges.append((left, right))
    name = file.get("tokenizer.ggml.pre", str, "gpt-2")
    try:
        bpe = BPE(
            vocab={token: i for i, token in enumerate(tokens)},
            merges=merges,
            ignore_merges=name == "llama-bpe",
        )
    except Exception as error:  # the Rust library raises plain Exception
        raise BadGguf(file.path, "its vocabulary and its merges do not fit together") from error
    tokenizer = Tokenizer(bpe)
    if (normal := normaliser(name)) is not None:
        tokenizer.normalizer = normal
    prefix = file.get("tokenizer.ggml.add_space_prefix", bool, False)
    tokenizer.pre_tokenizer = pre_tokeniser(name, leading_space=prefix, what=file.path.name)
    tokenizer.decoder = decoders.ByteLevel()
    control = (PieceKind.CONTROL, PieceKind.UNKNOWN)
    special = [t for t, kind in zip(tokens, kinds, strict=True) if kind in control]
    plain = [t for t, kind in zip(tokens, kinds, strict=True) if kind == PieceKind.USER_DEFINED]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in plain])
    return tokenizer
