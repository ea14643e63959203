"""Special tokens in text: finding a chat template's own, and keeping a message's look-alikes apart from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from headrace.contract.errors import InvalidRequest

_GUARDS = range(0xF0000, 0xFFFFE)  # private use: no meaning, and rare in any text


class SpecialTokens:
    """The spellings of a vocabulary's special tokens, and their ids."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._ids = dict(ids)
        longest_first = "|".join(re.escape(s) for s in sorted(ids, key=len, reverse=True)) or "(?!)"
        # Some vocabularies have thousands: only where one can begin are they tried one by one.
        firsts = "".join(sorted(re.escape(s[0]) for s in {s[:1] for s in ids if s}))
        pattern = f"(?=[{firsts}])(?:{longest_first})" if firsts else longest_first
        self._exact = re.compile(pattern)
        # In any case, since a template may change a message's letters.
        self._alike = re.compile(pattern, re.IGNORECASE)
        self._heads = tuple({s[:n].lower() for s in ids for n in range(1, len(s))})
        self._tails = tuple({s[n:].lower() for s in ids for n in range(1, len(s))})

    def split(self, text: str) -> Iterator[tuple[str, int | None]]:
        """`text` in order as (piece of plain text, id of the special token after it); the last id is None."""
        at = 0
        for match in self._exact.finditer(text):
            yield text[at : match.start()], self._ids[match[0]]
            at = match.end()
        yield text[at:], None

    def guarded(self, text: str, guard: str) -> str:
        """`text` with `guard` put in so that no special token can be read in it, nor across its borders."""
        text = self._alike.sub(lambda match: match[0][0] + guard + match[0][1:], text)
        core = text.strip()
        if not core:
            return text
        start = text.index(core)
        opening = guard if core.lower().startswith(self._tails) else ""
        closing = guard if core.lower().endswith(self._heads) else ""
        return text[:start] + opening + core + closing + text[start + len(core) :]


def choose_guard(texts: Iterable[str]) -> str:
    """A character that occurs in none of `texts`."""
    used: set[str] = set()
    for text in texts:
        used.update(text)
    for code in _GUARDS:
        if (guard := chr(code)) not in used:
            return guard
    raise InvalidRequest("messages", "hold every character of the private-use plane")
