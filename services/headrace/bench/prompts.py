"""Prompts of exactly as many tokens as wanted: a text whose encoding has that length, and was counted."""

from __future__ import annotations

import random

from headrace.contract.errors import InvalidRequest
from headrace.models.tokeniser import Tokeniser

_SENTENCE = (
    "the water wheel turns and the river carries a small stone from the mill to the gate in the early morning"
    " people write a letter at the table near the window while children read music for the winter market"
    " a quiet answer before a long question is common in other towns after the warm summer evening"
)
_WORDS = _SENTENCE.split()

_TRIES = 200


def make_prompt(tokeniser: Tokeniser, length: int, rng: random.Random) -> str:
    """Words at random that `tokeniser` encodes as a plain prompt of exactly `length` tokens.

    Raises InvalidRequest for a length that no text was found for: the start token alone, for example.
    """
    overhead = len(tokeniser.encode_prompt("")) - len(tokeniser.encode(""))
    wanted = length - overhead
    for _ in range(_TRIES if wanted > 0 else 0):
        text = _words(wanted, rng)
        ids = tokeniser.encode(text)
        # Cut at a token, the text may encode otherwise than it was cut: counted, and drawn anew where it does.
        text = tokeniser.decode(ids[:wanted])
        if len(tokeniser.encode_prompt(text)) == length:
            return text
    raise InvalidRequest("prompt_tokens", f"no prompt of exactly {length} tokens was found")


def _words(tokens: int, rng: random.Random) -> str:
    """At least `tokens` tokens: a word has one or more in any vocabulary."""
    words = " ".join(rng.choice(_WORDS) for _ in range(tokens))
    return words.capitalize()
