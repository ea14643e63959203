"""Whether a tokeniser can be used, asked before a model is imported with it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from headrace.models.json_file import load_json
from headrace.models.tokeniser import Tokeniser

_LARGEST_ID = 1 << 22
"""Of a token. The library makes room for all ids up to the largest, and ends the process where it cannot."""

_TEXTS = ("a", "Hello, wörld!\n", "\U0010fffd")
"""Letters that every vocabulary has, some that few have, and one that none has."""


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokeniser in a `tokenizer.json`. Raises ValueError, with the reason."""
    try:
        document = load_json(path)
        for token_id in _ids(document):
            if type(token_id) is not int or not 0 <= token_id < _LARGEST_ID:
                raise ValueError(f"it has a token's id that is no whole number below {_LARGEST_ID}")
        return Tokenizer.from_file(str(path))
    except ValueError:
        raise
    except Exception as error:  # the Rust library raises plain Exception
        raise ValueError("it is no tokeniser") from error


def _ids(document: Any) -> Iterable[object]:
    vocabulary = document["model"]["vocab"]
    yield from vocabulary.values() if isinstance(vocabulary, dict) else ()
    for token in document.get("added_tokens") or ():
        yield token["id"]


def check_tokeniser(tokenizer: Tokenizer) -> None:
    """Raises ValueError, with the reason, where texts would fail: it has no token for what it does not know, say."""
    try:
        copy = Tokeniser(Tokenizer.from_str(tokenizer.to_str()))
        for text in _TEXTS:
            copy.decode(copy.encode(text))
    except Exception as error:  # the Rust library raises plain Exception
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"it cannot be used: {said}") from error
