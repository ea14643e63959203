"""What a vocabulary's tokens stand for, as bytes. Three ways of writing them are known.

- byte-level: each of 256 characters stands for a byte (GPT-2, Llama 3, Qwen, BLOOM, OPT);
- SentencePiece: `▁` stands for a space, `<0x0A>` for a byte (Llama 2, Mistral, Gemma, T5, Marian, NLLB, XLM-R);
- WordPiece: a token begins a word unless it begins with `##` (BERT).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer

ToBytes = Callable[[str], bytes]

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


def token_bytes_of(tokenizer: Tokenizer) -> ToBytes:
    """The way in which the tokens of `tokenizer` are written, by its decoder, else by how it splits text."""
    for part in (tokenizer.decoder, tokenizer.pre_tokenizer, tokenizer.model):
        kinds = set() if part is None else set(_kinds(part))
        if "ByteLevel" in kinds:
            return _byte_level
        if "WordPiece" in kinds:
            return _word_piece
        if kinds & {"ByteFallback", "Metaspace", "Unigram"}:
            return _sentencepiece
    return _byte_level


def plain_bytes(to_bytes: ToBytes, token: str) -> bytes:
    """The bytes of a token that the makers added as a plain text, which the ways of writing do not fit."""
    return token.replace("▁", " ").encode() if to_bytes is _sentencepiece else token.encode()


def _kinds(part: Any) -> list[str]:
    """The `type` of a tokeniser's part, and of the parts of that."""
    if type(part).__name__ in ("BPE", "Unigram", "WordPiece", "WordLevel"):
        return [type(part).__name__]  # no need to write out the vocabulary
    found: list[str] = []

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            found.append(str(value.get("type")))
            for inner in value.values():
                visit(inner)
        elif isinstance(value, list):
            for inner in value:
                visit(inner)

    visit(json.loads(part.__getstate__()))
    return found


def _byte_level(token: str) -> bytes:
    alphabet = byte_alphabet()
    try:
        return bytes(alphabet[character] for character in token)
    except KeyError:  # a token outside the byte-level scheme stands for itself
        return token.encode()


def _sentencepiece(token: str) -> bytes:
    if match := _BYTE_TOKEN.fullmatch(token):
        return bytes([int(match[1], 16)])
    return token.replace("▁", " ").encode()


def _word_piece(token: str) -> bytes:
    return token[2:].encode() if token.startswith("##") else b" " + token.encode()


@functools.cache
def byte_alphabet() -> dict[str, int]:
    """The 256 characters that byte-level BPE writes bytes as: printable Latin-1 as itself, the others from U+0100 on.

    Source: GPT-2's `bytes_to_unicode`.
    """
    alphabet: dict[str, int] = {}
    spare = 0x100
    for byte in range(256):
        if 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte <= 0xFF:
            alphabet[chr(byte)] = byte
        else:
            alphabet[chr(spare)] = byte
            spare += 1
    return alphabet
