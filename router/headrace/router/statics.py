"""Which prompts begin with a static prompt, and how often that spared a prefill."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import structlog
from nats.aio.client import Client

from headrace.contract.errors import InvalidRequest, MalformedMessage
from headrace.contract.static import STATIC_PREFIX, StaticCounts, decode_statics
from headrace.contract.subjects import MODELS_BUCKET
from headrace.router.models import RouterModel
from headrace.runtime.bucket import Entry
from headrace.runtime.bucket_watch import BucketWatch

log = structlog.get_logger(__name__)

LEAST = 16
"""Tokens of a static prompt: to keep fewer spares nothing that anybody notices."""
LEFT = 2
"""Tokens that a prompt has to have after it: a prompt of one token makes the engine answer otherwise."""
Tokens = tuple[int, ...]


class Statics:
    """The allow-lists, by model. Written by the watch, and by `match`, which keeps what it made of them."""

    def __init__(self, connection: Client) -> None:
        self._texts: dict[str, tuple[str, ...]] = {}
        self._prefixes: dict[tuple[str, str], tuple[Tokens, ...]] = {}
        """By model and version: longest first. Forgotten when a list changes."""
        self._counts: dict[str, StaticCounts] = {}
        self._watch = BucketWatch(connection, MODELS_BUCKET, STATIC_PREFIX, self._changed)

    def __repr__(self) -> str:
        return f"<Statics of {', '.join(self._texts) or 'no model'}>"

    async def listen(self) -> None:
        """Reads what is there, and hears of changes from now on."""
        await self._watch.listen()

    async def run(self) -> None:
        """Follows the bucket, until cancelled."""
        await self._watch.run()

    def match(self, model: RouterModel, prompt: Tokens) -> int:
        """How many tokens of the prompt are a static prompt, the longest that it begins with; 0 = none. Blocks for as
        long as tokenising takes where the list is new.
        """
        texts = self._texts.get(model.manifest.name)
        if not texts:
            return 0
        key = (model.manifest.name, model.manifest.version)
        if (prefixes := self._prefixes.get(key)) is None:
            prefixes = self._prefixes[key] = _prefixes(model, texts)
        return next(
            (len(p) for p in prefixes if prompt[: len(p)] == p and len(prompt) >= len(p) + LEFT),
            0,
        )

    def started(self, model: str, requests: int, tokens: int, *, kept: bool) -> None:
        """A batch with a static prompt of so many tokens began; `kept` is whether its worker had it."""
        one = self._counts.get(model) or StaticCounts(model=model)
        hits = requests if kept else requests - 1
        self._counts[model] = dataclasses.replace(
            one,
            hits=one.hits + hits,
            misses=one.misses + requests - hits,
            tokens=one.tokens + hits * tokens,
        )

    def counts(self) -> tuple[StaticCounts, ...]:
        return tuple(self._counts.values())

    def _changed(self, entries: Mapping[str, Entry]) -> None:
        found = {}
        for key, entry in entries.items():
            model = key.removeprefix(STATIC_PREFIX)
            try:
                found[model] = decode_statics(model, entry.value or b"").prompts
            except (MalformedMessage, InvalidRequest) as error:
                log.warning("static_prompts.malformed", model=model[:80], problem=str(error))
        self._texts, self._prefixes = found, {}
        log.info("static_prompts.changed", models={model: len(texts) for model, texts in found.items()})


def key_of(prompt: Sequence[int], tokens: int) -> str:
    """What tells one static prompt from another; "" = none."""
    if not tokens:
        return ""
    ids = ",".join(map(str, prompt[:tokens]))
    return blake2b(ids.encode(), digest_size=8).hexdigest()


def _prefixes(model: RouterModel, texts: Sequence[str]) -> tuple[Tokens, ...]:
    """The tokens with which every prompt begins that has one of these texts: the common ones of two that do."""
    found: set[Tokens] = set()
    for text in texts:
        found.add(_common(*(model.tokeniser.encode_prompt(text + more) for more in ("\nA", "\n1"))))
        if model.template is not None:
            chats = []
            for more in ("A", "1"):
                try:
                    chats.append(
                        model.tokeniser.encode_chat(model.template, [("system", text), ("user", more)])
                    )
                except InvalidRequest:
                    break  # a template without system prompts
            if len(chats) == 2:
                found.add(_common(*chats))
    return tuple(sorted((p for p in found if len(p) >= LEAST), key=len, reverse=True))


def _common(one: Sequence[int], other: Sequence[int]) -> Tokens:
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return tuple(one[:length])
