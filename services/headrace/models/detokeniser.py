"""Token ids to text, one at a time, never half a character."""

from __future__ import annotations

import codecs

from headrace.models.tokeniser import Tokeniser


class Detokeniser:
    """The text of one sequence of tokens, as it grows.

    What has been returned depends on the sequence alone, one token at a time: a second detokeniser that is fed the
    same ids returns the same pieces. All pieces and the flush together are `Tokeniser.decode` of the whole, with the
    same `continues`: output goes on after its prompt, and a translation does not. The cost of a token does not grow
    with the sequence.
    """

    def __init__(self, tokeniser: Tokeniser, *, continues: bool = True) -> None:
        self._token_bytes = tokeniser.token_bytes
        self._drop_space = self._drops_space = tokeniser.adds_space and not continues
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The text that this token completes: "" for a special token, or while a character is unfinished."""
        found = self._token_bytes[token_id]
        if self._drop_space and found:
            found, self._drop_space = found.removeprefix(b" "), False
        return self._decoder.decode(found)

    def flush(self) -> str:
        """What is left at the end: "", or U+FFFD where the last character was never finished. Then as new."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        self._drop_space = self._drops_space
        return text
