"""Whether a tokeniser can be used, asked before a model is imported with it."""

from __future__ import annotations

from tokenizers import Tokenizer

from headrace.models.tokeniser import Tokeniser

_TEXTS = ("a", "Hello, wörld!\n", "\U0010fffd")
"""Letters that every vocabulary has, some that few have, and one that none has."""


def check_tokeniser(tokenizer: Tokenizer) -> None:
    """Raises ValueError, with the reason, where texts would fail: it has no token for what it does not know, say."""
    try:
        copy = Tokeniser(Tokenizer.from_str(tokenizer.to_str()))
        for text in _TEXTS:
            copy.decode(copy.encode(text))
    except Exception as error:  # the Rust library raises plain Exception
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"it cannot be used: {said}") from error
