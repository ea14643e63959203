"""References to models: `name`, or `name@version` for one version of it. A version is typed by as many digits as tell
it apart, and written with all twelve.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from headrace.contract.errors import InvalidRequest
from headrace.contract.subjects import MAX_NAME_LENGTH, is_name

VERSION_DIGITS = 12
_VERSION = re.compile(rf"[0-9a-f]{{1,{VERSION_DIGITS}}}")


@dataclass(frozen=True, slots=True)
class Reference:
    """`version` is "" for what the name means, or the version's first digits."""

    name: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}" if self.version else self.name

    @property
    def exact(self) -> bool:
        """Whether it names one version, and no other."""
        return len(self.version) == VERSION_DIGITS


def parse_reference(text: str, field: str = "model") -> Reference:
    """The reference in `text`. Raises InvalidRequest(field)."""
    name, at, version = text.partition("@")
    if not is_name(name) or (at and not _VERSION.fullmatch(version)):
        raise InvalidRequest(
            field,
            f"must be NAME or NAME@VERSION: 1 to {MAX_NAME_LENGTH} letters, digits, '_' or '-', and 1 to"
            f" {VERSION_DIGITS} digits 0-9 a-f (was {text[:100]!r})",
        )
    return Reference(name, version)


def is_reference(text: str) -> bool:
    """Whether `text` is one whose version, where it has one, is whole: so models are called on the wire."""
    name, at, version = text.partition("@")
    return is_name(name) and (
        not at or (len(version) == VERSION_DIGITS and bool(_VERSION.fullmatch(version)))
    )
