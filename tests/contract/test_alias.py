"""An alias: who answers, how it changes, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contract.alias import (
    Alias,
    chain,
    check_alias,
    decode_alias,
    encode_alias,
    is_shadowed,
    pick,
    pointed_at,
    promoted,
    rolled_back,
    with_canary,
    with_shadow,
)
from headrace.contract.errors import InvalidRequest, MalformedMessage
from headrace.contract.ids import new_request_id

OLDEST, OLD, NEW, NEXT = (f"m@{digit:012x}" for digit in range(4))
CHAT = Alias(name="chat", stable=OLD, fallbacks=("tiny",))
IDS = st.integers(0, 10_000).map(lambda number: f"01a2269b-0653-74bd-b777-{number:012x}")
SHARES = st.floats(0, 1)


@given(IDS, SHARES, SHARES)
def test_whoever_is_with_the_canary_stays_with_it_as_its_share_grows(
    request_id: str, one: float, other: float
) -> None:
    """A request's part of the line is its id's alone."""
    small, large = sorted((one, other))
    if pick(with_canary(CHAT, NEW, small), request_id) == NEW:
        assert pick(with_canary(CHAT, NEW, large), request_id) == NEW


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_a_canary_answers_about_its_share(share: float) -> None:
    """Of ten thousand ids, within two hundredths; nothing at 0, everything at 1."""
    alias = with_canary(CHAT, NEW, share)
    part = sum(pick(alias, new_request_id()) == NEW for _ in range(10_000)) / 10_000
    assert part == pytest.approx(share, abs=0.02 if 0 < share < 1 else 0)


@given(IDS, SHARES)
def test_a_chain_is_the_pick_then_the_stable_one_then_the_fallbacks(request_id: str, share: float) -> None:
    """Each once."""
    alias = with_canary(CHAT, NEW, share)
    found = chain(alias, request_id)
    assert found[0] == pick(alias, request_id)
    assert found in ((NEW, OLD, "tiny"), (OLD, "tiny"))


def test_the_shadow_gets_a_share_of_its_own() -> None:
    """Not the requests that the canary gets: half of either is in half of the other."""
    alias = with_shadow(with_canary(CHAT, NEW, 0.5), NEXT, 0.5)
    ids = [new_request_id() for _ in range(2_000)]
    both = sum(is_shadowed(alias, each) and pick(alias, each) == NEW for each in ids)
    assert both / len(ids) == pytest.approx(0.25, abs=0.05)
    assert not any(is_shadowed(CHAT, each) for each in ids)


def test_a_promotion_and_what_undoes_it() -> None:
    """Canary, promotion, roll-back, roll-back of that; a roll-back of a canary leaves what was promoted before."""
    canary = with_canary(CHAT, NEW, 0.1)
    new = promoted(canary)
    assert (new.stable, new.canary, new.share, new.previous) == (NEW, "", 0.0, OLD)
    back = rolled_back(new, "it failed")
    assert (back.stable, back.previous, back.note) == (OLD, NEW, "it failed")
    assert rolled_back(back).stable == NEW
    assert rolled_back(with_canary(new, NEXT, 0.5)) == dataclasses.replace(new, note="")
    assert pointed_at(new, NEW).previous == OLD, "it stands for that already"


@pytest.mark.parametrize("step", [promoted, rolled_back])
def test_what_is_not_there_is_neither_promoted_nor_rolled_back(step: object) -> None:
    """The error says what is missing."""
    with pytest.raises(InvalidRequest, match="canary"):
        step(CHAT)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "a.b"}, "name"),
        ({"stable": ""}, "model"),
        ({"stable": "m@"}, "model"),
        ({"stable": "m@1"}, "model"),
        ({"stable": f"{OLD}@2"}, "model"),
        ({"canary": "m 2"}, "canary"),
        ({"canary": OLD}, "canary"),
        ({"shadow": "*"}, "shadow"),
        ({"share": 1.01}, "share"),
        ({"share": float("nan")}, "share"),
        ({"shadow_share": -0.1}, "shadow_share"),
        ({"fallbacks": ("a", ">")}, "fallbacks[1]"),
        ({"fallbacks": ("a",) * 9}, "fallbacks"),
    ],
)
def test_what_breaks_a_limit_is_refused_by_its_field(changes: dict[str, object], field: str) -> None:
    """Before anything is written."""
    with pytest.raises(InvalidRequest) as refused:
        check_alias(dataclasses.replace(CHAT, **changes))  # type: ignore[arg-type]
    assert refused.value.field == field


def test_it_is_kept_as_json_and_read_back() -> None:
    """All of it; its name is the key's."""
    alias = dataclasses.replace(
        with_shadow(with_canary(CHAT, NEW, 0.25), NEXT, 0.5), previous=OLDEST, changed_s=12.5, note="why"
    )
    assert decode_alias("chat", encode_alias(alias)) == alias


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"stable": "a b"}', b'{"stable": "m", "share": "x"}', b"\xff"]
)
def test_what_is_no_alias_is_malformed(body: bytes) -> None:
    """Whatever somebody wrote into the bucket."""
    with pytest.raises(MalformedMessage):
        decode_alias("chat", body)
