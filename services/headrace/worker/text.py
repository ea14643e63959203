"""The text of one entry, and its natural end, as a function of its tokens alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from headrace.contract.values import FinishReason
from headrace.worker.stop import StopMatcher


class TokenText(Protocol):
    """Token ids to text, one at a time, never half a character: `headrace.models.detokeniser.Detokeniser`."""

    def push(self, token_id: int, /) -> str: ...

    def flush(self) -> str: ...


class EntryText:
    """Turns tokens into text, and says when the output is at its end.

    A deterministic function of the token sequence, one token at a time: whoever feeds a second one the same tokens
    holds the same state. That is how a resumed entry goes on without a gap or a repeat in its text.
    """

    def __init__(
        self, detokeniser: TokenText, *, stop: Sequence[str], end_ids: Collection[int], limit: int
    ) -> None:
        """`limit`: the most tokens of the output, at least 1."""
        self._detokeniser = detokeniser
        self._stop = StopMatcher(stop) if stop else None
        self._end_ids = end_ids
        self._left = limit

    def push(self, token_id: int) -> tuple[str, FinishReason | None]:
        """The text that this token completes, and why the output ends with it, if it does. Then push no more."""
        self._left -= 1
        if token_id in self._end_ids:
            return self._rest(), FinishReason.END
        text = self._detokeniser.push(token_id)
        if self._stop is not None:
            text, found = self._stop.push(text)
            if found:
                return text, FinishReason.STOP
        if self._left <= 0:
            return text + self._rest(), FinishReason.LENGTH
        return text, None

    def replay(self, token_ids: Sequence[int]) -> FinishReason | None:
        """Takes tokens whose text was told before. Returns why the output ended with them, if it did."""
        for token_id in token_ids:
            _, finish = self.push(token_id)
            if finish is not None:
                return finish
        return None

    def _rest(self) -> str:
        """What was held back, now that nothing follows."""
        tail = self._detokeniser.flush()
        if self._stop is None:
            return tail
        text, found = self._stop.push(tail)
        return text if found else text + self._stop.flush()
