"""What SentencePiece does to a text before it looks for tokens, done to the whole text.

A `tokenizers` tokeniser cuts a text at the makers' own tokens first, and does all else to each piece: it would begin
every piece with a space, and see no run of spaces that a token of spaces stands in. So what was read from a
SentencePiece vocabulary has a first step that changes nothing and says that the steps are for the whole text. Those of
other tokenisers stay where their makers put them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers

from headrace.models.character_map import CharacterMap

SPACE = "▁"
"""How pieces write a space."""

_MARK = "the whole text"


def text_rules(charsmap: bytes, *, squeeze_spaces: bool, leading_space: bool) -> normalizers.Normalizer:
    """The steps, as a tokeniser keeps them."""
    steps: list[normalizers.Normalizer] = [normalizers.Replace(Regex("(?!)"), _MARK)]
    if charsmap:
        steps.append(normalizers.Precompiled(charsmap))
    if squeeze_spaces:
        # Spaces only: other white space stays. At the end a text's own `▁` is taken for one.
        steps.append(normalizers.Replace(Regex(rf"\A +|[ {SPACE}]+\z"), ""))
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    if leading_space:
        steps.append(normalizers.Prepend(SPACE))
    steps.append(normalizers.Replace(" ", SPACE))
    return normalizers.Sequence(steps)


class TextRules:
    """The steps taken out of a tokeniser. Immutable."""

    def __init__(self, steps: Sequence[Any], kept: Sequence[str]) -> None:
        """`steps` as JSON has them; `kept`: the makers' own tokens, in which no character is replaced.

        Raises ValueError for a table of characters that is damaged.
        """
        self._characters = None
        if steps and steps[0].get("type") == "Precompiled":
            table = base64.b64decode(steps[0].get("precompiled_charsmap") or "", validate=True)
            self._characters = CharacterMap(table, kept)
            steps = steps[1:]
        self._rest = normalizers.Sequence([])
        self._rest.__setstate__(json.dumps({"type": "Sequence", "normalizers": steps}).encode())

    def apply(self, text: str) -> str:
        """The text that tokens are looked for in."""
        if self._characters is not None:
            text = self._characters.apply(text)
        prepared: str = self._rest.normalize_str(text)
        return prepared


def take_text_rules(tokenizer: Tokenizer) -> TextRules | None:
    """The rules of a SentencePiece vocabulary, taken out of `tokenizer`; None for others, which keep theirs.

    Raises ValueError for rules that are damaged.
    """
    if tokenizer.normalizer is None:
        return None
    steps = json.loads(tokenizer.normalizer.__getstate__()).get("normalizers") or [{}]
    if steps[0].get("content") != _MARK:
        return None
    own = (token.content for token in tokenizer.get_added_tokens_decoder().values() if not token.special)
    rules = TextRules(steps[1:], tuple(own))
    tokenizer.normalizer = None
    return rules
