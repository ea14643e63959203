"""For which versions what is asked for counts, where models are placed.

What asks for an alias counts for the version that answers it: the canary for its share, the stable one for the rest,
and where that is neither served nor wanted, the first of its fallbacks that is. While a version is wanted and not
served, a fallback answers in its stead: then it counts for both, so that the one comes and the other stays until then.
Copies count for the shadow. What is no alias is a model itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from headrace.contract.alias import Alias, chains
from headrace.router.asked_meter import Asked, Name


def by_version(
    asked: Mapping[Name, Asked],
    alias_of: Callable[[str], Alias | None],
    *,
    wanted: Collection[str],
    serves: Callable[[str], bool],
) -> Mapping[str, Asked]:
    """By reference. `wanted` is the desired state; `serves` says whether somebody has lanes for a version."""
    found: dict[str, Asked] = {}
    for name, what in asked.items():
        for reference, share in _counts_for(name, alias_of(name.name), wanted, serves):
            found[reference] = found.get(reference, Asked()).plus(what, share)
    return found


def _counts_for(
    name: Name, alias: Alias | None, wanted: Collection[str], serves: Callable[[str], bool]
) -> Iterator[tuple[str, float]]:
    if alias is None:
        yield name.name, 1.0
    elif name.copies:
        if alias.shadow:
            yield alias.shadow, 1.0
    else:
        for chain, share in chains(alias).items():
            answers = next((reference for reference in chain if serves(reference)), None)
            meant = next((ref for ref in chain if ref in wanted or ref == answers), chain[0])
            yield meant, share
            if answers is not None and answers != meant:
                yield answers, share
