"""Stop strings in a text that arrives piece by piece."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Lets text through until a stop string is complete, and holds back what may be the beginning of one.

    The stop string that is completed first, character by character, counts; of several that are completed by the same
    character the longest. So the text before it depends on the whole text alone, not on how it was cut into pieces.
    The cost of a character does not grow with the text.

    Source: Knuth, Morris, Pratt (1977), one automaton per stop string.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """`stops` holds no empty string."""
        self._stops = tuple(stops)
        self._failures = tuple(_failure_table(stop) for stop in self._stops)
        # Per stop string: how long its longest prefix is that the text so far ends with.
        self._matched = [0] * len(self._stops)
        # Invariant: the end of the text, as long as the largest of `_matched`.
        self._held = ""

    def __repr__(self) -> str:
        return f"<StopMatcher of {len(self._stops)}, holding back {len(self._held)} characters>"

    def push(self, piece: str) -> tuple[str, bool]:
        """The text that is safe to show now, and whether a stop string is complete. After that, push no more."""
        text = self._held + piece
        for position, character in enumerate(piece, start=len(self._held) + 1):
            longest = self._advance(character)
            if longest:
                self._held = ""
                return text[: position - longest], True
        keep = max(self._matched)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def flush(self) -> str:
        """What was held back: no stop string came of it."""
        held, self._held = self._held, ""
        self._matched = [0] * len(self._stops)
        return held

    def _advance(self, character: str) -> int:
        """Takes one character. Returns the length of the longest stop string that it completes, or 0."""
        longest = 0
        for index, stop in enumerate(self._stops):
            matched = self._matched[index]
            while matched and stop[matched] != character:
                matched = self._failures[index][matched - 1]
            if stop[matched] == character:
                matched += 1
            if matched == len(stop):
                longest = max(longest, matched)
                matched = self._failures[index][matched - 1]
            self._matched[index] = matched
        return longest


def _failure_table(stop: str) -> tuple[int, ...]:
    """At i: the length of the longest proper prefix of `stop` that `stop[: i + 1]` ends with."""
    table = [0] * len(stop)
    matched = 0
    for index in range(1, len(stop)):
        while matched and stop[index] != stop[matched]:
            matched = table[matched - 1]
        if stop[index] == stop[matched]:
            matched += 1
        table[index] = matched
    return tuple(table)
