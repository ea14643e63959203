"""What a lane needs of an engine that translates: a loaded encoder-decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headrace.contract.values import Sampling
from headrace.worker.engine import OnToken


class Translator(Protocol):
    """A loaded model. Either method may be called by as many threads at once as it was loaded with lanes.

    `sources` are the texts, `prefixes` what the output of each is made to begin with; that is not told. No source is
    empty and every id is in the vocabulary: ValueError otherwise, before anything is computed. The output depends on
    source and prefix alone, whatever else is in the batch. Whatever the engine raises comes through.
    """

    def translate(
        self,
        sources: Sequence[Sequence[int]],
        prefixes: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        max_new: int,
        on_token: OnToken,
        static_tokens: int = 0,
    ) -> None:
        """Decodes one hypothesis of each until every entry has ended, at the latest after `max_new` steps.

        Steps count from the first after the shortest prefix: an entry whose prefix is k tokens longer makes its first
        token in step k, as in `Engine.run` one whose prompt is longer.
        """
        ...

    def search(
        self,
        sources: Sequence[Sequence[int]],
        prefixes: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        max_new: int,
    ) -> list[list[int]]:
        """The best hypothesis of each by beam search, of at most `max_new` tokens, its end token among them."""
        ...

    def close(self) -> None:
        """Frees the model. Blocks until it is gone; nothing may be under way."""
        ...


def check_sources(
    sources: Sequence[Sequence[int]], prefixes: Sequence[Sequence[int]], vocab_size: int
) -> None:
    """Raises ValueError where they break the contract of `Translator`."""
    if not sources or len(prefixes) != len(sources):
        raise ValueError("a batch has at least one source, and a prefix for each")
    if not all(sources):
        raise ValueError("a source is empty")
    for ids in (*sources, *prefixes):
        if ids and (min(ids) < 0 or max(ids) >= vocab_size):
            raise ValueError(f"a token id lies outside the vocabulary of {vocab_size}")
