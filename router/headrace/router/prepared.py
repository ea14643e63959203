"""A request's input as the model takes it, checked against the model's limits."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.contract.errors import InvalidRequest
from headrace.contract.requests import Request
from headrace.models.framing import Framing
from headrace.models.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Either a prompt or texts."""

    prompt: tuple[int, ...] = ()
    texts: tuple[tuple[int, ...], ...] = ()
    """To embed: the tokens of each."""
    target_prefix: tuple[int, ...] = ()
    """To translate: what the output is made to begin with."""
    max_tokens: int
    """Of the output; 1 where there is none."""


def prepare_texts(request: Request, manifest: Manifest, framing: Framing) -> Prepared:
    """The texts of a request to embed. Raises InvalidRequest, which names the first that does not fit."""
    texts = tuple(framing.texts(request.texts))
    for index, text in enumerate(texts):
        if len(text) <= framing.sides:
            raise InvalidRequest(f"texts[{index}]", "is empty: it has no tokens")
        if len(text) > manifest.context_length:
            raise InvalidRequest(
                f"texts[{index}]", f"has {len(text)} tokens; the context length is {manifest.context_length}"
            )
    return Prepared(texts=texts, max_tokens=1)


def prepare_translation(
    request: Request, manifest: Manifest, framing: Framing, default_max_tokens: int
) -> Prepared:
    """The source of a request to translate. Raises InvalidRequest with both numbers where it, or the output, does not
    fit: each has the context to itself.
    """
    prompt, prefix = framing.translation(request.prompt, request.source_language, request.target_language)
    context = manifest.context_length
    if len(prompt) <= framing.sides:
        raise InvalidRequest("prompt", "is empty: it has no tokens")
    if len(prompt) > context:
        raise InvalidRequest("prompt", f"has {len(prompt)} tokens; the context length is {context}")
    room = context - len(prefix)
    if request.max_tokens > room:
        raise InvalidRequest(
            "max_tokens",
            f"{request.max_tokens} exceeds the context length {context}; at most {room} are left",
        )
    return Prepared(
        prompt=prompt, target_prefix=prefix, max_tokens=request.max_tokens or min(default_max_tokens, room)
    )
