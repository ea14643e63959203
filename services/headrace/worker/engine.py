"""What a lane needs of an engine: a loaded model that decodes a batch of prompts in lockstep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from headrace.contract.values import Sampling

OnToken: TypeAlias = Callable[[int, int, int, bool], bool]
"""Called as (entry, token id, step, last) for each token, on whatever thread the engine decodes in.

`entry` is the index of the prompt. `step` counts the decode steps of the whole batch from 0: an entry whose prompt
is k tokens longer than the shortest makes its first token in step k, as the engine works the rest of its prompt in,
one token a step. All calls of a step come before those of the next. `last` is True when the entry ends with this
token by itself: it is an end token. True as the answer ends the entry; it is not called for again, and the others
go on. It may block for long: that batch stands still meanwhile, and nothing else does. Never raises.
"""


class Engine(Protocol):
    """A loaded model. `run` may be called by as many threads at once as it was loaded with lanes."""

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        sampling: Sampling,
        max_new: int,
        on_token: OnToken,
        static_tokens: int = 0,
    ) -> None:
        """Decodes until every entry has ended, at the latest after `max_new` steps. Blocks the calling thread.

        No prompt is empty, every id is in the vocabulary, and a prompt of one token has only its like beside it:
        ValueError otherwise, before anything is computed. Greedy output depends on the prompt alone where all
        prompts are equally long. Whatever the engine raises comes through.

        The first `static_tokens` tokens are the same in all prompts, and at least two more follow in each: what the
        engine computes of them it may keep until it is closed, so that the next batch with them need not.
        """
        ...

    def close(self) -> None:
        """Frees the model. Blocks until it is gone; no `run` may be under way."""
        ...


def check_prompts(prompts: Sequence[Sequence[int]], vocab_size: int, static_tokens: int = 0) -> None:
    """Raises ValueError where `prompts` break the contract of `Engine.run`.

    CTranslate2 itself would take an unknown token for `unk`, fail a whole batch for an empty prompt, and with a
    one-token prompt in it give the others' prompts back as their output.
    """
    if not prompts:
        raise ValueError("a batch has at least one prompt")
    shortest = min(map(len, prompts))
    if shortest == 0:
        raise ValueError("a prompt is empty")
    if shortest == 1 and max(map(len, prompts)) > 1:
        raise ValueError("a prompt of one token stands beside longer ones")
    for prompt in prompts:
        if min(prompt) < 0 or max(prompt) >= vocab_size:
            raise ValueError(f"a token id lies outside the vocabulary of {vocab_size}")
    if static_tokens:
        static = prompts[0][:static_tokens]
        if shortest < static_tokens + 2 or any(prompt[:static_tokens] != static for prompt in prompts):
            raise ValueError("a prompt does not begin with the static prompt, and two tokens more")
