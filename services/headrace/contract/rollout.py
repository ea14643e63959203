"""How versions do, in counts: what routers tell operators, and what a roll-back is decided by. No content."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

from headrace.contract.alias import Alias
from headrace.contract.static import StaticCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionCounts:
    """The requests that asked for an alias and were answered by one version, as far as routers that live counted."""

    alias: str
    model: str
    """The reference."""
    answered: int = 0
    """Outcomes, whatever their kind, without those that were wrong or cancelled by their clients."""
    failed: int = 0
    """Those of them that failed, or lost an attempt on the way."""
    late: int = 0
    """Those whose first token came later than their objective."""
    first_token_s: float = 0.0
    """Sum over those that had a first token."""
    first_tokens: int = 0
    """How many these are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowCounts:
    """Copies that a shadow was given, compared with the answers that clients got."""

    alias: str
    model: str
    """The shadow's reference."""
    copies: int = 0
    """Sent to its queue."""
    dropped: int = 0
    """Not sent: the queue was full, or the request too large."""
    failed: int = 0
    """Ended without an answer."""
    same: int = 0
    """Answered token for token as the client was. Of greedy requests alone, as chance has no right answer."""
    different: int = 0
    """Answered otherwise."""
    same_tokens: int = 0
    """Tokens up to the first that differs, of both."""
    tokens: int = 0
    """Tokens of the clients' answers that these were compared with."""
    answer_s: float = 0.0
    """Sum over the shadow's answers: from the first assignment to the end."""
    answer_s_of_client: float = 0.0
    """The same sum over the answers that clients got to the same requests."""
    answers: int = 0
    """How many these are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutCounts:
    """What one router, or all together, counted."""

    versions: tuple[VersionCounts, ...] = ()
    shadows: tuple[ShadowCounts, ...] = ()
    statics: tuple[StaticCounts, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasState:
    """An alias as operators see it."""

    alias: Alias
    revision: int
    """Of the key in the bucket: a change names it, so that two operators do not undo each other's."""
    counts: RolloutCounts = RolloutCounts()


C = TypeVar("C", VersionCounts, ShadowCounts, StaticCounts)


def added(one: C, other: C) -> C:
    """Both together; they are of one version."""
    sums = {
        field.name: getattr(one, field.name) + getattr(other, field.name)
        for field in fields(one)
        if field.name not in ("alias", "model")
    }
    return replace(one, **sums)


def summed(counts: Iterable[RolloutCounts]) -> RolloutCounts:
    """What several routers counted, by alias and version."""
    versions: dict[tuple[str, str], VersionCounts] = {}
    shadows: dict[tuple[str, str], ShadowCounts] = {}
    statics: dict[tuple[str, str], StaticCounts] = {}
    for one in counts:
        _add(versions, one.versions)
        _add(shadows, one.shadows)
        _add(statics, one.statics)
    return RolloutCounts(
        versions=tuple(versions[key] for key in sorted(versions)),
        shadows=tuple(shadows[key] for key in sorted(shadows)),
        statics=tuple(statics[key] for key in sorted(statics)),
    )


def counts_of(counts: RolloutCounts, alias: str) -> RolloutCounts:
    """Those of one alias."""
    return RolloutCounts(
        versions=tuple(one for one in counts.versions if one.alias == alias),
        shadows=tuple(one for one in counts.shadows if one.alias == alias),
    )


def _add(to: dict[tuple[str, str], C], counts: Iterable[C]) -> None:
    for one in counts:
        key = ("" if isinstance(one, StaticCounts) else one.alias, one.model)
        to[key] = added(to[key], one) if key in to else one
