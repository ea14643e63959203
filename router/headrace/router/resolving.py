"""Which version answers a request: the one behind the alias that it asks for, among those that are served.

1. One that has begun goes on at its version while that is served. Where it is not, it goes on at another one of the
   alias that has the same words, which its outcome tells; where there is none, it waits for its own.
2. Else the first of its chain that is served and not overloaded: the canary or the stable version, by the request's id,
   then the stable one, then the fallbacks.
3. Where all are overloaded, the first that is served; where none is, the first that this router knows.

*Served* is what has lanes at this router or another one. *Overloaded* is where the wait for a lane here is longer than
the request can bear: until its deadline, the objective of its class, or `rollout.fallback_wait_s`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Protocol

from headrace.contract.alias import Alias, chain
from headrace.contract.requests import Request


class Versions(Protocol):
    """What a router knows of versions."""

    def knows(self, reference: str) -> bool:
        """Whether it can tokenise for it."""
        ...

    def serves(self, reference: str) -> bool:
        """Whether somebody has lanes for it."""
        ...

    def wait_s(self, reference: str, request: Request) -> float:
        """The wait for a lane here, as far as is known; 0 where nothing is."""
        ...

    def words(self, reference: str) -> str:
        """Equal for those that make the same tokens of the same text; "" where it is not known."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What answers a request."""

    model: str
    """The reference. It may be one that this router does not know."""
    asked: str = ""
    """The alias, where another version of it will do as well; "" = nothing but `model` will."""
    left: str = ""
    """The version that it began at and does not go on at; "" where there is none."""


def resolve(
    request: Request,
    alias: Alias | None,
    versions: Versions,
    *,
    began_at: str,
    patience_s: Callable[[Request], float] = lambda request: inf,
) -> Resolved:
    """`began_at` is the version that made the tokens it has; "" where it has none, or that is not known.
    `patience_s` is how long it can wait from now on.
    """
    if alias is None:
        return Resolved(model=began_at or request.model)
    options = chain(alias, request.id)
    if began_at and (began_at != alias.name or versions.knows(began_at)):
        return _going_on(request, began_at, options, versions)
    known = [reference for reference in options if versions.knows(reference)] or list(options)
    served = [reference for reference in known if versions.serves(reference)]
    if not served:
        return Resolved(model=known[0], asked=alias.name)
    limit_s = patience_s(request)
    free = (reference for reference in served if versions.wait_s(reference, request) <= limit_s)
    return Resolved(model=next(free, served[0]), asked=alias.name)


def _going_on(request: Request, began_at: str, options: tuple[str, ...], versions: Versions) -> Resolved:
    if versions.serves(began_at):
        return Resolved(model=began_at, asked=request.model)
    for reference in options:
        if (
            reference != began_at
            and versions.serves(reference)
            and versions.knows(reference)
            and versions.words(began_at) == versions.words(reference) != ""
        ):
            return Resolved(model=reference, asked=request.model, left=began_at)
    return Resolved(model=began_at)
