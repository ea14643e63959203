"""SentencePiece's compiled table of characters to replace, read and applied as SentencePiece does it.

The `tokenizers` library has such a step, too (`Precompiled`). It looks up what is one character to a reader, and takes
the shortest key in it: of a letter with two marks it loses the second, and of CR LF the LF. SentencePiece takes the
longest key, wherever it stands.

Source: the table's format is that of the Darts-clone library's double arrays: units of 32 bits.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import numpy.typing as npt

_LEAF = 1 << 8
_WIDE = 1 << 9
_VALUE = (1 << 31) - 1
_LABEL = (1 << 31) | 0xFF
_BYTES = np.arange(1, 256, dtype=np.uint32)
_MOST_PREFIXES = 500_000
"""Of keys, up to two characters long. SentencePiece's own rules have 20,000."""


class CharacterMap:
    """Replaces characters and sequences of them; what is `kept` (the makers' own tokens) stays as it is.

    Immutable. Raises ValueError for a table that is damaged.
    """

    def __init__(self, table: bytes, kept: Collection[str] = ()) -> None:
        self._units, self._texts = _split(table)
        single, second = _first_characters(self._units)
        self._second = frozenset(second)
        self._kept: dict[str, list[str]] = {}
        for text in sorted(filter(None, kept), key=len, reverse=True):
            self._kept.setdefault(text[0], []).append(text)
        # What no key begins with is passed over in one go. Ordinary letters begin keys, but only with a mark behind
        # them: so it is the marks that are looked for.
        self._candidate = _one_of(single | second | set(self._kept))

    def __repr__(self) -> str:
        return f"CharacterMap({len(self._units)} units)"

    def apply(self, text: str) -> str:
        """`text` with the longest key at each place replaced. What is kept goes before any key."""
        done: list[str] = []
        at = from_ = 0
        while (match := self._candidate.search(text, from_)) is not None:
            start = match.start()
            found = self._found_at(text, start - 1) if start > at and text[start] in self._second else None
            if found is not None:
                start -= 1
            else:
                found = self._found_at(text, start)
            if found is None:
                from_ = start + 1
                continue
            length, replacement = found
            done += (text[at:start], replacement)
            at = from_ = start + length
        return "".join((*done, text[at:]))

    def _found_at(self, text: str, start: int) -> tuple[int, str] | None:
        """(characters, what they become) of the longest key at `start`."""
        for kept in self._kept.get(text[start], ()):
            if text.startswith(kept, start):
                return len(kept), kept
        units, node, longest = self._units, _child(self._units[0], 0), None
        for end in range(start, len(text)):
            for byte in text[end].encode(errors="replace"):
                node ^= byte
                if node >= len(units) or units[node] & _LABEL != byte:
                    return longest
                unit = units[node]
                node = _child(unit, node)
            if unit & _LEAF and node < len(units):
                longest = end + 1 - start, self._text(units[node] & _VALUE)
        return longest

    def _text(self, start: int) -> str:
        return self._texts[start : self._texts.find(b"\0", start)].decode(errors="replace")


def _one_of(characters: Collection[str]) -> re.Pattern[str]:
    """Written in ranges: beyond U+FFFF the library tries what stands in a set one by one."""
    ranges: list[list[int]] = []
    for code in sorted(map(ord, characters)):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    inner = "".join(f"{re.escape(chr(low))}-{re.escape(chr(high))}" for low, high in ranges)
    return re.compile(f"[{inner}]" if inner else "(?!)")


def _split(table: bytes) -> tuple[Sequence[int], bytes]:
    """The units of the double array, and the texts that its values point into."""
    if not table:
        return (0,), b""
    (size,) = struct.unpack_from("<I", table) if len(table) >= 4 else (0,)
    if size % 4 or not size or 4 + size > len(table):
        raise ValueError("its table of characters is shorter than it says")
    texts = table[4 + size :]
    if texts and not texts.endswith(b"\0"):
        raise ValueError("its table of characters ends within a text")
    return np.frombuffer(table, dtype="<u4", count=size // 4, offset=4).tolist(), texts


def _child(unit: int, node: int) -> int:
    """Where the unit is that follows `unit`, which is at `node`; but for the byte that leads there."""
    return node ^ ((unit >> 10) << ((unit & _WIDE) >> 6))


def _first_characters(units: Sequence[int]) -> tuple[set[str], set[str]]:
    """The characters that are keys by themselves, and those that come second in longer ones.

    Keys share units, so a damaged table may go in circles: there is a limit.
    """
    array = np.array(units, dtype=np.uint32)
    single, second = set[str](), set[str]()
    reached, level = 0, [(b"", _child(units[0], 0))]
    while level:
        after: list[tuple[bytes, int]] = []
        for prefix, node in level:
            if (reached := reached + 1) > _MOST_PREFIXES or len(after) > _MOST_PREFIXES:
                raise ValueError("its table of characters goes in circles")
            for key, place in _followers(array, prefix, node):
                length = _whole_characters(key)
                if length == 2:
                    second.add(key.decode(errors="replace")[1:2])
                    continue
                if length == 1 and units[place] & _LEAF:
                    single.add(key.decode(errors="replace")[:1])
                after.append((key, _child(units[place], place)))
        level = after
    return single, second


def _followers(units: npt.NDArray[np.uint32], prefix: bytes, node: int) -> Iterable[tuple[bytes, int]]:
    places = np.uint32(node) ^ _BYTES
    places, bytes_ = places[places < len(units)], _BYTES[places < len(units)]
    hit = (units[places] & np.uint32(_LABEL)) == bytes_
    return [
        (prefix + bytes((byte,)), place)
        for byte, place in zip(bytes_[hit].tolist(), places[hit].tolist(), strict=True)
    ]


def _whole_characters(key: bytes) -> int:
    """How many characters `key` has, where it ends with one; else 0. More than two count as two."""
    try:
        return min(2, len(key.decode()))
    except UnicodeDecodeError:
        return 2 if len(key) > 8 else 0
