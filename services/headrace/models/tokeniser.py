"""Text to token ids and back, for one model. The same ids, and the same token strings, as the engine has."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer

from headrace.models.errors import DamagedModel
from headrace.models.special import SpecialTokens, choose_guard
from headrace.models.store import StoredModel

TOKENISER_NAME = "tokenizer.json"

Message = tuple[str, str]
"""(role, content)"""


class Template(Protocol):
    """What turns messages into a text: `headrace.models.template.ChatTemplate`."""

    source: str

    def render(self, messages: Sequence[Message]) -> str: ...


class Tokeniser:
    """A byte-level BPE tokeniser. Immutable, and safe to use from several threads.

    Text is data: a special token's spelling in it is encoded as the characters it consists of, never as that token.
    """

    def __init__(self, tokenizer: Tokenizer, bos_id: int | None = None) -> None:
        """`bos_id`: the token that a plain prompt begins with, for models that want one."""
        # Ours alone from here on; the flag lets special tokens' spellings in text be text.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._bos_id = bos_id
        added = tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(i for i, token in added.items() if token.special)
        self.tokens: tuple[str, ...] = _in_order(tokenizer.get_vocab(with_added_tokens=True))
        """id → the engine's string for it. Unique."""
        plain = frozenset(added) - self.special_ids
        self.token_bytes: tuple[bytes, ...] = tuple(
            b"" if i in self.special_ids else token.encode() if i in plain else _bytes_of(token)
            for i, token in enumerate(self.tokens)
        )
        """id → the bytes that it stands for; empty for special tokens."""
        self._special = SpecialTokens({self.tokens[i]: i for i in self.special_ids})

    def __repr__(self) -> str:
        return f"Tokeniser({len(self.tokens)} tokens, {len(self.special_ids)} special)"

    @classmethod
    def load(cls, model: StoredModel | Path) -> Tokeniser:
        """The tokeniser of an installed model, or of the folder of one. Raises DamagedModel."""
        folder = model.path if isinstance(model, StoredModel) else model
        bos_id = (
            model.manifest.bos_token_id if isinstance(model, StoredModel) and model.manifest.add_bos else None
        )
        try:
            tokenizer = Tokenizer.from_file(str(folder / TOKENISER_NAME))
        except Exception as error:  # the Rust library raises plain Exception
            raise DamagedModel(folder.name, TOKENISER_NAME, "missing or unreadable") from error
        return cls(tokenizer, bos_id)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, nothing added."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode_prompt(self, text: str) -> list[int]:
        """The ids of a plain prompt: `encode`, after the bos token where the model wants one."""
        return self.encode(text) if self._bos_id is None else [self._bos_id, *self.encode(text)]

    def encode_chat(self, template: Template, messages: Sequence[Message]) -> list[int]:
        """The ids of `messages` in the model's chat format, up to where its answer begins.

        Only the template's own special tokens become special: what a message contains stays text.
        Raises InvalidRequest, as `ChatTemplate.render` does.
        """
        guard = choose_guard([template.source, *(content for _, content in messages)])
        rendered = template.render(
            [(role, self._special.guarded(content, guard)) for role, content in messages]
        )
        ids: list[int] = []
        for piece, special in self._special.split(rendered):
            if text := piece.replace(guard, ""):
                ids += self.encode(text)
            if special is not None:
                ids.append(special)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, special tokens left out. Bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self.token_bytes[i] for i in ids).decode("utf-8", errors="replace")


def _in_order(vocabulary: dict[str, int]) -> tuple[str, ...]:
    ids = sorted(vocabulary.items(), key=lambda item: item[1])
    if [i for _, i in ids] != list(range(len(ids))):
        raise ValueError("the vocabulary's ids are not 0 … n-1")
    return tuple(token for token, _ in ids)


def _bytes_of(token: str) -> bytes:
    alphabet = byte_alphabet()
    try:
        return bytes(alphabet[character] for character in token)
    except KeyError:  # a token outside the byte-level scheme stands for itself
        return token.encode()


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
