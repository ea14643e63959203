"""Which tokens of a checkpoint mean begin, end, unknown and language, and what goes around a text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Tokenizer

from headrace.models.checkpoint import Checkpoint
from headrace.models.errors import BadCheckpoint
from headrace.models.manifest import SOURCE_LANGUAGE, TARGET_LANGUAGE

_LANGUAGE = {
    "marian": re.compile(r">>(?P<code>[^<>]+)<<"),
    "m2m_100": re.compile(r"__(?P<code>[a-z]{2,3})__|(?P<nllb>[a-z]{3}_[A-Z][a-z]{3})"),
}
_USUAL = {"unk": ("<unk>", "[UNK]"), "pad": ("<pad>", "[PAD]"), "sep": ("[SEP]",)}
"""Spellings where a checkpoint does not say."""
_MOST_QUOTED = 40
"""Characters of a value that is wrong."""
_TEMPLATE_FILE = "chat_template.jinja"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointTokens:
    """As the vocabulary spells them."""

    bos: str | None
    bos_id: int | None
    add_bos: bool
    ends: tuple[str, ...]
    """None for an encoder would be right; the engine wants one, so there is one."""
    end_ids: tuple[int, ...]
    unknown: str
    pad: str | None
    chat_template: str | None
    source_prefix: tuple[str, ...] = ()
    source_suffix: tuple[str, ...] = ()
    target_prefix: tuple[str, ...] = ()
    languages: Mapping[str, str] = field(default_factory=dict)


def read_tokens(checkpoint: Checkpoint, tokenizer: Tokenizer) -> CheckpointTokens:
    """The tokens that mean something. Raises BadCheckpoint where the checkpoint names one that does not exist."""
    reader = _Reader(checkpoint, tokenizer)
    ends = reader.ends()
    bos = reader.token("bos")
    source_prefix, source_suffix, target_prefix, languages = _framing(checkpoint, tokenizer)
    bos_id = None if bos is None else tokenizer.token_to_id(bos)
    return CheckpointTokens(
        bos=bos,
        bos_id=bos_id,
        add_bos=checkpoint.task == "generate" and bos_id is not None and reader.adds(bos_id),
        ends=tuple(token for token, _ in ends),
        end_ids=tuple(token_id for _, token_id in ends),
        unknown=reader.token("unk") or ends[0][0],
        pad=reader.token("pad"),
        chat_template=_chat_template(checkpoint),
        source_prefix=source_prefix,
        source_suffix=source_suffix,
        target_prefix=target_prefix,
        languages=languages,
    )


class _Reader:
    def __init__(self, checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
        self._checkpoint = checkpoint
        self._tokenizer = tokenizer
        self._ids: Mapping[str, int] = tokenizer.get_vocab(with_added_tokens=True)
        self._texts = {token_id: text for text, token_id in self._ids.items()}

    def _text(self, token_id: object) -> str | None:
        return self._texts.get(token_id) if type(token_id) is int else None

    def token(self, kind: str) -> str | None:
        """The token of this kind (`bos`, `unk`, …), by its spelling, else by its id in config.json."""
        for found in (self._checkpoint.tokeniser, self._checkpoint.special):
            value = found.get(f"{kind}_token")
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str) and text in self._ids:
                return text
        if (text := self._text(self._checkpoint.config.get(f"{kind}_token_id"))) is not None:
            return text
        usual = _USUAL.get(kind, ())
        return next((text for text in usual if text in self._ids), None)

    def ends(self) -> Sequence[tuple[str, int]]:
        found: list[Any] = []
        for document in (self._checkpoint.generation, self._checkpoint.config):
            value = document.get("eos_token_id")
            found += value if isinstance(value, list) else [] if value is None else [value]
        own = self.token("eos") or self.token("sep")
        pairs = {self._ids[own]: own} if own else {}
        for token_id in found:
            if (text := self._text(token_id)) is None:
                said = repr(token_id)[:_MOST_QUOTED]
                raise BadCheckpoint(self._checkpoint.folder, f"its end token {said} is not in its vocabulary")
            pairs.setdefault(token_id, text)
        if not pairs:
            raise BadCheckpoint(self._checkpoint.folder, "nothing says what its end token is")
        return [(text, token_id) for token_id, text in pairs.items()]

    def adds(self, bos_id: int) -> bool:
        """Whether the makers' tokeniser begins a text with `bos_id`."""
        if "add_bos_token" in self._checkpoint.tokeniser:
            return bool(self._checkpoint.tokeniser["add_bos_token"])
        if (self._checkpoint.folder / "tokenizer.json").exists():
            ids = self._tokenizer.encode("a", add_special_tokens=True).ids
            return ids[:1] == [bos_id]
        return self._checkpoint.model_type in ("llama", "mistral", "gemma3_text", "opt")


def _framing(
    checkpoint: Checkpoint, tokenizer: Tokenizer
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], Mapping[str, str]]:
    kind = checkpoint.model_type
    if kind == "bert":
        return ("[CLS]",), ("[SEP]",), (), {}
    if kind == "xlm-roberta":
        return ("<s>",), ("</s>",), (), {}
    languages = _languages(kind, tokenizer)
    if kind == "marian":
        return ((TARGET_LANGUAGE,) if languages else ()), ("</s>",), (), languages
    if kind == "m2m_100":
        return (SOURCE_LANGUAGE,), ("</s>",), (TARGET_LANGUAGE,), languages
    if kind == "t5":
        return (), ("</s>",), (), {}
    return (), (), (), {}


def _languages(kind: str, tokenizer: Tokenizer) -> Mapping[str, str]:
    if kind not in _LANGUAGE:
        return {}
    found = {}
    for token in sorted(tokenizer.get_vocab(with_added_tokens=True)):
        if match := _LANGUAGE[kind].fullmatch(token):
            found[next(code for code in match.groups() if code)] = token
    return found


def _chat_template(checkpoint: Checkpoint) -> str | None:
    path = checkpoint.folder / _TEMPLATE_FILE
    if path.exists():
        return path.read_text(encoding="utf-8")
    found: Any = checkpoint.tokeniser.get("chat_template")
    if isinstance(found, list):  # several, by name
        found = next(
            (t.get("template") for t in found if isinstance(t, dict) and t.get("name") == "default"), None
        )
    return found if isinstance(found, str) else None
