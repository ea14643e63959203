"""Text to token ids and back, for one model. The same ids, and the same token strings, as the engine has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer

from headrace.models.errors import DamagedModel
from headrace.models.special import SpecialTokens, choose_guard
from headrace.models.store import StoredModel
from headrace.models.text_rules import take_text_rules
from headrace.models.token_bytes import plain_bytes, token_bytes_of

TOKENISER_NAME = "tokenizer.json"

_PROBE = "a"
"""A text that every vocabulary knows, to see what is put before it."""

_STRANGE = "\U0010fffd"
"""A text that no vocabulary knows: private use, the last character of all."""

Message = tuple[str, str]
"""(role, content)"""


class Template(Protocol):
    """What turns messages into a text: `headrace.models.template.ChatTemplate`."""

    source: str

    def render(self, messages: Sequence[Message]) -> str: ...


class Tokeniser:
    """A tokeniser of any kind (`headrace.models.token_bytes`). Immutable, and safe to use from several threads.

    Text is data: a special token's spelling in it is encoded as the characters it consists of, never as that token.
    """

    def __init__(self, tokenizer: Tokenizer, bos_id: int | None = None) -> None:
        """`bos_id`: the token that a plain prompt begins with, for models that want one.

        Raises ValueError for a vocabulary with gaps, or a damaged rules for texts.
        """
        # Ours alone from here on; the flag lets special tokens' spellings in text be text.
        tokenizer.encode_special_tokens = True
        self._rules = take_text_rules(tokenizer)
        self._tokenizer = tokenizer
        self._bos_id = bos_id
        added = tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(i for i, token in added.items() if token.special)
        self.tokens: tuple[str, ...] = _in_order(tokenizer.get_vocab(with_added_tokens=True))
        """id → the engine's string for it. Unique."""
        to_bytes = token_bytes_of(tokenizer)
        plain = frozenset(added) - self.special_ids
        self.token_bytes: tuple[bytes, ...] = tuple(
            b"" if i in self.special_ids else plain_bytes(to_bytes, token) if i in plain else to_bytes(token)
            for i, token in enumerate(self.tokens)
        )
        """id → the bytes that it stands for; empty for special tokens."""
        self._special = SpecialTokens({self.tokens[i]: i for i in self.special_ids})
        self._unknown_id = _unknown_id(tokenizer, self.special_ids)
        # Of the ids that text can come to, these never may; an unknown token is what text may come to.
        self._forbidden = self.special_ids - {self._unknown_id}
        self.adds_space = any(self.token_bytes[i][:1] == b" " for i in self.encode(_PROBE)[:1])
        """Whether a text's tokens begin with a space that the text does not have, as SentencePiece's mostly do."""

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
            return cls(Tokenizer.from_file(str(folder / TOKENISER_NAME)), bos_id)
        except Exception as error:  # the Rust library raises plain Exception
            raise DamagedModel(folder.name, TOKENISER_NAME, "missing or unreadable") from error

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, nothing added."""
        if self._rules is not None:
            text = self._rules.apply(text)
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        ids: list[int] = encoding.ids
        if self._forbidden.isdisjoint(ids):
            return ids
        # A special token's spelling that the vocabulary's own search has found as a whole.
        spelled: list[int] = []
        for token_id, (start, end) in zip(ids, encoding.offsets, strict=True):
            spelled += self._spell(text[start:end]) if token_id in self._forbidden else (token_id,)
        return spelled

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

    def decode(self, ids: Iterable[int], *, continues: bool = False) -> str:
        """The text of `ids`, special tokens left out. Bytes that are no UTF-8 become U+FFFD.

        `continues`: they go on after other text, so a space before the first word is theirs. Else a space that `encode`
        has put there goes again.
        """
        found = b"".join(self.token_bytes[i] for i in ids)
        if self.adds_space and not continues:
            found = found.removeprefix(b" ")
        return found.decode("utf-8", errors="replace")

    def _spell(self, text: str) -> list[int]:
        """`text` in tokens of one character or byte each."""
        ids = []
        for character in text:
            found = [self._tokenizer.token_to_id(character)]
            if found[0] is None:
                found = [self._tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in character.encode()]
            ids += [self._unknown_id if i is None else i for i in found]
        return [i for i in ids if i is not None]


def _unknown_id(tokenizer: Tokenizer, special_ids: Collection[int]) -> int | None:
    """The token for what the vocabulary does not have, if there is one."""
    if (name := getattr(tokenizer.model, "unk_token", None)) is not None:
        found: int | None = tokenizer.token_to_id(name)
        return found
    # A unigram vocabulary does not say.
    ids = tokenizer.encode(_STRANGE, add_special_tokens=False).ids[-1:]
    return ids[0] if ids and ids[0] in special_ids else None


def _in_order(vocabulary: dict[str, int]) -> tuple[str, ...]:
    ids = sorted(vocabulary.items(), key=lambda item: item[1])
    if [i for _, i in ids] != list(range(len(ids))):
        raise ValueError("the vocabulary's ids are not 0 … n-1")
    return tuple(token for token, _ in ids)
