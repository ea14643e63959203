"""Static prompts: system prompts of a model that engines keep computed. As JSON under `static.<model>` in the KV bucket
`headrace_models`.

They are allow-listed, and few: an engine keeps each until its model is unloaded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.contract.errors import InvalidRequest, MalformedMessage
from headrace.contract.subjects import check_name

STATIC_PREFIX = "static."
MAX_STATICS = 16
MAX_STATIC_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticPrompts:
    """The texts, as a request's first message of the role `system` has them, or as the beginning of a bare prompt."""

    model: str
    """A model's name: they hold for all of its versions."""
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticCounts:
    """How often batches began with a static prompt, at the routers that live."""

    model: str
    """The reference."""
    hits: int = 0
    """Requests whose worker had it."""
    misses: int = 0
    """Requests whose worker computed it, for the first time."""
    tokens: int = 0
    """Prompt tokens that were not computed thanks to it."""


def check_statics(statics: StaticPrompts) -> StaticPrompts:
    """Gives them back, or raises InvalidRequest that names the field at fault and its limit. No text is quoted."""
    check_name("model", statics.model)
    if len(statics.prompts) > MAX_STATICS:
        raise InvalidRequest(
            "prompts", f"at most {MAX_STATICS} are allowed for a model (were {len(statics.prompts)})"
        )
    for index, text in enumerate(statics.prompts):
        size = len(text.encode())
        if not 1 <= size <= MAX_STATIC_BYTES:
            raise InvalidRequest(
                f"prompts[{index}]", f"must be 1 to {MAX_STATIC_BYTES} bytes long (was {size})"
            )
    return statics


def encode_statics(statics: StaticPrompts) -> bytes:
    """The value in the bucket. The model is in the key."""
    return json.dumps({"prompts": list(statics.prompts)}).encode()


def decode_statics(model: str, body: bytes) -> StaticPrompts:
    """Raises MalformedMessage."""
    try:
        prompts: Sequence[object] = json.loads(body)["prompts"]
        texts = tuple(text for text in prompts if isinstance(text, str))
        if len(texts) != len(prompts):
            raise ValueError("not all are texts")
        return check_statics(StaticPrompts(model=model, prompts=texts))
    except InvalidRequest as error:
        raise MalformedMessage(f"static prompts of {model[:64]}", str(error)) from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise MalformedMessage(f"static prompts of {model[:64]}", "are not the JSON of texts") from None
