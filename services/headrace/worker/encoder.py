"""What a lane needs of an engine that embeds: a loaded model that makes a vector of each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headrace.contract.values import Sampling, Vector
from headrace.worker.engine import OnToken


class Encoder(Protocol):
    """A loaded model. `embed` may be called by as many threads at once as it was loaded with lanes."""

    def embed(self, texts: Sequence[Sequence[int]]) -> list[Vector]:
        """A vector for each text, in their order, all computed at once and padded to the longest. Blocks the calling
        thread.

        No text is empty and every id is in the vocabulary: ValueError otherwise, before anything is computed. A
        vector depends on its text alone, but for the last bits. Whatever the engine raises comes through.
        """
        ...

    def close(self) -> None:
        """Frees the model. Blocks until it is gone; no `embed` may be under way."""
        ...


def check_texts(texts: Sequence[Sequence[int]], vocab_size: int) -> None:
    """Raises ValueError where `texts` break the contract of `Encoder.embed`."""
    if not texts:
        raise ValueError("a batch has at least one text")
    for text in texts:
        if not text:
            raise ValueError("a text is empty")
        if min(text) < 0 or max(text) >= vocab_size:
            raise ValueError(f"a token id lies outside the vocabulary of {vocab_size}")


class EncoderOnly:
    """An encoder as an `Engine`, so that it is measured like one: a batch is computed at once, and then each entry
    makes as many tokens as one likes in no time. So its prefill is what embedding takes, and its steps are nothing.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        max_new: int,
        on_token: OnToken,
        static_tokens: int = 0,
    ) -> None:
        self._encoder.embed(prompts)
        live = set(range(len(prompts)))
        for step in range(max_new):
            live -= {entry for entry in sorted(live) if on_token(entry, 0, step, False)}

    def close(self) -> None:
        self._encoder.close()
