"""An alias: a name that requests ask for, and the versions that answer it. Kept as JSON under `alias.<name>` in the KV
bucket `headrace_models`.

A reference (`headrace.contract.references`) names a model as workers serve it. An alias names references alone, never
another alias, so what it comes to is found in one step. It may have a model's own name, and then goes before that.

    stable    what answers
    canary    a new version that answers a share of the requests, chosen by their ids: the same one gets the same again
    fallbacks who answers where neither is there, or both are overloaded; the first that can
    shadow    a version that gets a copy of a share, in the class `batch`; its answers are compared, and discarded
    previous  what `rollback` goes back to where there is no canary

Each change is a function from one alias to the next.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from headrace.contract.errors import InvalidRequest, MalformedMessage
from headrace.contract.references import VERSION_DIGITS, is_reference
from headrace.contract.subjects import MAX_NAME_LENGTH, check_name

ALIAS_PREFIX = "alias."
MAX_FALLBACKS = 8
MAX_NOTE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """See the module. Shares lie in 0 … 1."""

    name: str
    stable: str
    canary: str = ""
    share: float = 0.0
    """Of the requests, those that the canary answers."""
    fallbacks: tuple[str, ...] = ()
    shadow: str = ""
    shadow_share: float = 0.0
    """Of the completed requests, those that the shadow gets, too."""
    previous: str = ""
    changed_s: float = 0.0
    """Unix time of the last change."""
    note: str = ""
    """Why it changed last, for a person."""

    @property
    def references(self) -> tuple[str, ...]:
        """All that may answer, each once, the likeliest first."""
        return tuple(dict.fromkeys(ref for ref in (self.stable, self.canary, *self.fallbacks) if ref))


def check_reference(field: str, reference: str) -> str:
    """Gives `reference` back, or raises InvalidRequest(field)."""
    if not is_reference(reference):
        raise InvalidRequest(
            field,
            f"must be NAME or NAME@VERSION: 1 to {MAX_NAME_LENGTH} letters, digits, '_' or '-', and all"
            f" {VERSION_DIGITS} digits 0-9 a-f (was {reference[:100]!r})",
        )
    return reference


def check_alias(alias: Alias) -> Alias:
    """Gives it back, or raises InvalidRequest that names the field at fault and its limit."""
    check_name("name", alias.name)
    check_reference("model", alias.stable)
    for field, reference in (
        ("canary", alias.canary),
        ("shadow", alias.shadow),
        ("previous", alias.previous),
    ):
        if reference:
            check_reference(field, reference)
    if len(alias.fallbacks) > MAX_FALLBACKS:
        raise InvalidRequest(
            "fallbacks", f"at most {MAX_FALLBACKS} are allowed (were {len(alias.fallbacks)})"
        )
    for index, reference in enumerate(alias.fallbacks):
        check_reference(f"fallbacks[{index}]", reference)
    for field, share in (("share", alias.share), ("shadow_share", alias.shadow_share)):
        if not (math.isfinite(share) and 0 <= share <= 1):
            raise InvalidRequest(field, f"must lie in 0 … 1 (was {share:g})")
    if alias.canary == alias.stable:
        raise InvalidRequest("canary", f"is {alias.stable}, which answers already")
    return alias


# Who answers.


def part_of(request_id: str, purpose: str) -> float:
    """Where a request stands in [0, 1): by its id alone, and for each purpose anew."""
    digest = blake2b(request_id.encode(), digest_size=8, person=purpose.encode()).digest()
    return int.from_bytes(digest, "big") / 2**64


def pick(alias: Alias, request_id: str) -> str:
    """The reference that a request is for: the canary for its share of the ids, else the stable one. Who is with the
    canary at some share is so at each larger one.
    """
    return alias.canary if alias.canary and part_of(request_id, "canary") < alias.share else alias.stable


def chain(alias: Alias, request_id: str) -> tuple[str, ...]:
    """Who answers a request, and who does in their stead, in order."""
    return _behind(alias, pick(alias, request_id))


def chains(alias: Alias) -> Mapping[tuple[str, ...], float]:
    """Every chain that a request may have, with the part of the requests that have it."""
    share = alias.share if alias.canary else 0.0
    parts = {_behind(alias, alias.canary): share} if share else {}
    return {**parts, _behind(alias, alias.stable): 1 - share}


def _behind(alias: Alias, picked: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((picked, alias.stable, *alias.fallbacks)))


def is_shadowed(alias: Alias, request_id: str) -> bool:
    """Whether the shadow gets a copy."""
    return bool(alias.shadow) and part_of(request_id, "shadow") < alias.shadow_share


# How it changes.


def pointed_at(alias: Alias, stable: str, fallbacks: tuple[str, ...] | None = None) -> Alias:
    """From now on `stable` answers. A canary ends; what answered before is what `rolled_back` goes back to."""
    previous = alias.previous if stable == alias.stable else alias.stable
    changed = dataclasses.replace(alias, stable=stable, canary="", share=0.0, previous=previous, note="")
    return changed if fallbacks is None else dataclasses.replace(changed, fallbacks=fallbacks)


def with_canary(alias: Alias, canary: str, share: float) -> Alias:
    """`canary` answers a share of the requests; a share of 0 keeps it with none."""
    return dataclasses.replace(alias, canary=canary, share=share, note="")


def promoted(alias: Alias) -> Alias:
    """The canary answers all. Raises InvalidRequest where there is none."""
    if not alias.canary:
        raise InvalidRequest("name", f"{alias.name} has no canary to promote; begin with one")
    return pointed_at(alias, alias.canary)


def rolled_back(alias: Alias, note: str = "") -> Alias:
    """The canary ends; where there is none, what was promoted last does. Raises InvalidRequest without either."""
    note = note[:MAX_NOTE]
    if alias.canary:
        return dataclasses.replace(alias, canary="", share=0.0, note=note)
    if not alias.previous:
        raise InvalidRequest("name", f"{alias.name} has neither a canary nor a former version to go back to")
    return dataclasses.replace(alias, stable=alias.previous, previous=alias.stable, note=note)


def with_shadow(alias: Alias, shadow: str, share: float) -> Alias:
    """`shadow` gets a copy of a share; "" = nobody does."""
    return dataclasses.replace(alias, shadow=shadow, shadow_share=share if shadow else 0.0, note="")


# As it is kept.


def encode_alias(alias: Alias) -> bytes:
    """The value in the bucket. Its name is in the key."""
    document = dataclasses.asdict(alias)
    del document["name"]
    return json.dumps(document).encode()


def decode_alias(name: str, body: bytes) -> Alias:
    """Raises MalformedMessage. Fields of a newer version are left out."""
    try:
        document = json.loads(body)
        alias = check_alias(
            Alias(
                name=name,
                stable=_text(document, "stable"),
                canary=_text(document, "canary"),
                share=float(document.get("share", 0.0)),
                fallbacks=tuple(map(str, document.get("fallbacks", ()))),
                shadow=_text(document, "shadow"),
                shadow_share=float(document.get("shadow_share", 0.0)),
                previous=_text(document, "previous"),
                changed_s=float(document.get("changed_s", 0.0)),
                note=_text(document, "note")[:MAX_NOTE],
            )
        )
    except InvalidRequest as error:
        raise MalformedMessage(f"alias {name[:64]}", str(error)) from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise MalformedMessage(f"alias {name[:64]}", "is not the JSON of an alias") from None
    return alias


def _text(document: dict[str, Any], field: str) -> str:
    return str(document.get(field, ""))
