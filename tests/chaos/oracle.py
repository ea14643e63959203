"""What the undisturbed run gives for a request: every answer is held against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headrace.client.client import HeadraceClient
from headrace.contract.values import FinishReason, Sampling
from headrace.models.detokeniser import Detokeniser
from headrace.models.fake import FakeTiming
from headrace.models.store import ModelStore
from headrace.models.tokeniser import Tokeniser
from headrace.worker.fake_engine import FakeEngine
from headrace.worker.text import EntryText
from tests.chaos.asked import Asked, Poison

TENANT = "undisturbed"
"""Whose the undisturbed runs on the mesh are."""

Continuation = Callable[[Asked], Sequence[int]]
"""The tokens that the model makes after a request's prompt: as many as were asked for, or up to an end token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """An answer. `finish_reason`: None where it does not end there."""

    token_ids: tuple[int, ...]
    text: str
    finish_reason: FinishReason | None


class Oracle:
    """Answers for one model. The text, stop strings and limit are the worker's own rules on the tokens."""

    def __init__(self, store: ModelStore, model: str, continuation: Continuation) -> None:
        stored = store.open(model)
        self._tokeniser = Tokeniser.load(stored)
        self._end_ids = frozenset(stored.manifest.end_token_ids)
        self._continuation = continuation

    def expect(self, asked: Asked) -> Expected:
        """The undisturbed answer, whole."""
        whole = self.read(asked, self._continuation(asked))
        assert whole.finish_reason is not None, f"the continuation of {asked.name} is too short"
        return whole

    def read(self, asked: Asked, tokens: Sequence[int]) -> Expected:
        """What the model's tokens mean, up to the first that ends the answer."""
        text = EntryText(
            Detokeniser(self._tokeniser),
            stop=asked.stop,
            end_ids=() if asked.ignore_end else self._end_ids,
            limit=asked.max_tokens,
        )
        ids: list[int] = []
        pieces: list[str] = []
        for token_id in tokens:
            piece, finish = text.push(token_id)
            ids.append(token_id)
            pieces.append(piece)
            if finish is not None:
                return Expected(token_ids=tuple(ids), text="".join(pieces), finish_reason=finish)
        return Expected(token_ids=tuple(ids), text="".join(pieces), finish_reason=None)


def fake_continuation(store: ModelStore, model: str) -> Continuation:
    """The fake engine itself, without a mesh around it."""
    stored = store.open(model)
    manifest = stored.manifest
    tokeniser = Tokeniser.load(stored)
    engine = FakeEngine(FakeTiming(), vocab_size=manifest.vocab_size, end_id=manifest.end_token_ids[0])

    def make(asked: Asked) -> Sequence[int]:
        made: list[int] = []

        def on_token(index: int, token: int, step: int, last: bool) -> bool:
            made.append(token)
            return False

        # A poisoned prompt makes it fail; its tokens do not depend on that.
        engine.run(
            [_Harmless(tokeniser.encode_prompt(asked.prompt))],
            sampling=Sampling(ignore_end=asked.ignore_end),
            max_new=asked.max_tokens,
            on_token=on_token,
        )
        return made

    return make


_COMMANDS = tuple(ord(poison.value) for poison in Poison)


class _Harmless(tuple[int, ...]):
    """A prompt that does not tell the fake engine to fail or to crash."""

    __slots__ = ()

    def __contains__(self, token: object) -> bool:
        return token not in _COMMANDS and super().__contains__(token)


async def measured_continuation(
    client: HeadraceClient, model: str, prompts: Sequence[str], max_tokens: int
) -> Continuation:
    """What the undisturbed mesh answers now, one request at a time."""
    known: dict[tuple[str, bool], tuple[int, ...]] = {}
    for prompt in prompts:
        for ignore_end in (False, True):
            outcome = await client.complete(
                model=model, prompt=prompt, max_tokens=max_tokens, ignore_end=ignore_end, tenant=TENANT
            )
            known[prompt, ignore_end] = outcome.token_ids
    return lambda asked: known[asked.prompt, asked.ignore_end]
