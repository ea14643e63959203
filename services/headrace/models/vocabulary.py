"""The vocabulary in a GGUF file's metadata as a `tokenizers` tokeniser."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from headrace.models.errors import BadGguf, UnsupportedModel
from headrace.models.gguf_file import GgufFile

_DIGITS_ALONE = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"}
"""Names (`tokenizer.ggml.pre`) that mean: each digit alone, the rest as GPT-2 splits."""
_GPT2 = {"gpt-2", "mpt", "olmo", "jais"}
"""Names that mean: as GPT-2 splits."""

_ENDS = {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<|end|>", "</s>"}
"""Control tokens that end a turn wherever a vocabulary has them, beside the one that it names as its end."""


class _Kind(enum.IntEnum):
    """`tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


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
    """The byte-level BPE vocabulary of `file`. Raises UnsupportedModel for another kind, BadGguf for a broken one."""
    model = file.get("tokenizer.ggml.model", str)
    if model != "gpt2":
        raise UnsupportedModel(file.path.name, f"tokeniser {model!r}; only byte-level BPE ('gpt2') can be")
    tokens = file.get_list("tokenizer.ggml.tokens", str)
    if len(set(tokens)) != len(tokens):
        raise BadGguf(file.path, "its vocabulary has a token twice")
    kinds = file.get_list("tokenizer.ggml.token_type", int)
    if len(kinds) != len(tokens):
        raise BadGguf(file.path, f"{len(tokens)} tokens but {len(kinds)} token types")
    end = _token_id(file, "tokenizer.ggml.eos_token_id", len(tokens))
    if end is None:
        raise BadGguf(file.path, "its vocabulary names no end token")
    unknown = _token_id(file, "tokenizer.ggml.unknown_token_id", len(tokens))
    others = (i for i, t in enumerate(tokens) if kinds[i] == _Kind.CONTROL and t in _ENDS and i != end)
    return Vocabulary(
        tokenizer=_byte_level_bpe(file, tokens, kinds),
        tokens=tokens,
        bos_id=_token_id(file, "tokenizer.ggml.bos_token_id", len(tokens)),
        add_bos=file.get("tokenizer.ggml.add_bos_token", bool, False),
        end_ids=(end, *others),
        unknown_id=end if unknown is None else unknown,
    )


def _token_id(file: GgufFile, key: str, size: int) -> int | None:
    if not file.has(key):
        return None
    if not 0 <= (token_id := file.get(key, int)) < size:
        raise BadGguf(file.path, f"{key!r} is {token_id}, outside the vocabulary of {size}")
    return token_id


def _byte_level_bpe(file: GgufFile, tokens: Sequence[str], kinds: Sequence[int]) -> Tokenizer:
    merges = []
    for merge in file.get_list("tokenizer.ggml.merges", str):
        left, _, right = merge.partition(" ")
        merges.append((left, right))
    try:
        bpe = BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
    except Exception as error:  # the Rust library raises plain Exception
        raise BadGguf(file.path, "its vocabulary and its merges do not fit together") from error
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = _pre_tokenizer(file)
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(tokens, kinds, strict=True) if kind in (_Kind.CONTROL, _Kind.UNKNOWN)]
    plain = [t for t, kind in zip(tokens, kinds, strict=True) if kind == _Kind.USER_DEFINED]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in plain])
    return tokenizer


def _pre_tokenizer(file: GgufFile) -> pre_tokenizers.PreTokenizer:
    name = file.get("tokenizer.ggml.pre", str, "gpt-2")
    prefix = file.get("tokenizer.ggml.add_space_prefix", bool, False)
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=True)
    if name in _GPT2:
        return gpt2
    if name in _DIGITS_ALONE:
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
    known = ", ".join(sorted(_GPT2 | _DIGITS_ALONE))
    raise UnsupportedModel(file.path.name, f"its text is split the {name!r} way; known are {known}")
