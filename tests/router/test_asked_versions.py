"""For which versions what is asked for counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from headrace.contract.alias import Alias, chain, chains
from headrace.contract.ids import new_request_id
from headrace.router.asked_meter import Asked, Name
from headrace.router.asked_versions import by_version

ALIAS = Alias(name="chat", stable="old", canary="new", share=0.25, fallbacks=("tiny",), shadow="dark")
ASKED = {
    Name(name="chat"): Asked(rate=4.0, waiting=8),
    Name(name="chat", copies=True): Asked(rate=1.0),
    Name(name="old"): Asked(rate=1.0, waiting=2),
}


def rates(
    wanted: Collection[str], served: Collection[str], asked: Mapping[Name, Asked] = ASKED
) -> dict[str, float]:
    found = by_version(
        asked, {"chat": ALIAS}.get, wanted=wanted, serves=lambda reference: reference in served
    )
    return {reference: what.rate for reference, what in found.items()}


def test_an_alias_counts_for_its_versions_by_their_shares() -> None:
    """Beside what asks for a version itself; copies count for the shadow."""
    assert rates({"old", "new", "tiny", "dark"}, {"old", "new"}) == {"old": 4.0, "new": 1.0, "dark": 1.0}
    found = by_version(ASKED, {"chat": ALIAS}.get, wanted=(), serves=lambda reference: True)
    assert {reference: what.waiting for reference, what in found.items()} == {"old": 8, "new": 2, "dark": 0}


def test_what_is_neither_wanted_nor_served_is_answered_by_the_next_in_its_chain() -> None:
    """Of the canary that is the stable version, of that a fallback; where nobody is there, nothing is lost."""
    alone = {Name(name="chat"): Asked(rate=4.0)}
    assert rates({"old"}, {"old"}, alone) == {"old": 4.0}
    assert rates({"tiny"}, set(), alone) == {"tiny": 4.0}
    assert rates(set(), {"tiny"}, alone) == {"tiny": 4.0}
    assert rates(set(), set(), alone) == {"old": 3.0, "new": 1.0}


def test_who_answers_until_the_version_is_there_counts_too() -> None:
    """The version is to come, and until then the one that stands in is to stay."""
    alone = {Name(name="chat"): Asked(rate=4.0)}
    assert rates({"old", "new", "tiny"}, {"tiny"}, alone) == {"old": 3.0, "new": 1.0, "tiny": 4.0}
    assert rates({"old", "new"}, {"old"}, alone) == {"old": 4.0, "new": 1.0}


def test_chains_are_those_that_requests_have() -> None:
    """By id, in about these shares."""
    parts = chains(ALIAS)
    assert parts == {("new", "old", "tiny"): 0.25, ("old", "tiny"): 0.75}
    seen = [chain(ALIAS, new_request_id()) for _ in range(2000)]
    assert seen.count(("new", "old", "tiny")) / len(seen) == pytest.approx(0.25, abs=0.1)
    assert set(seen) == parts.keys()
    assert chains(Alias(name="a", stable="old", canary="new")) == {("old",): 1.0}
