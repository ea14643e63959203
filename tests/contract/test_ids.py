"""Request ids."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contract.errors import InvalidRequest
from headrace.contract.ids import (
    check_request_id,
    derived_request_id,
    is_request_id,
    made_s,
    may_be_used_again,
    new_request_id,
)

ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
UUID7 = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
TIMES = st.integers(0, 2**48 - 1)


@pytest.mark.parametrize("text", [ULID, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "0" * 26, UUID7])
def test_ulids_and_uuids_of_version_7_are_ids(text: str) -> None:
    """They come back as they are."""
    assert check_request_id("request_id", text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        ULID.lower(),
        ULID[:-1],
        ULID + "0",
        "8" + ULID[1:],
        *(ULID[:-1] + letter for letter in "ILOU"),
        ULID + "\n",
        " " + ULID,
        UUID7.upper(),
        UUID7.replace("-", ""),
        "{" + UUID7 + "}",
        UUID7 + "\n",
        "017f22e2-79b0-4cc3-98c4-dc0c0c07398f",
        "017f22e2-79b0-7cc3-c8c4-dc0c0c07398f",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
        "01ARZ3NDEKTSV4RRFFQ69G5FA٣",
        "hr.v1.>",
    ],
)
def test_anything_else_is_refused_without_being_quoted(text: str) -> None:
    """Case, length, letters and version count: an id becomes a token of a subject."""
    assert not is_request_id(text)
    with pytest.raises(InvalidRequest) as refused:
        check_request_id("request_id", text)
    assert refused.value.field == "request_id"
    assert len(text) < 2 or text not in str(refused.value)


def test_an_id_tells_when_it_was_made() -> None:
    """To the millisecond. Source of the values: the ULID specification and RFC 9562, appendix A.6."""
    assert made_s("01ARZ3NDEKTSV4RRFFQ69G5FAV") == 1469922850.259
    assert made_s("017f22e2-79b0-7cc3-98c4-dc0c0c07398f") == 1645557742.0


@given(TIMES)
def test_both_forms_tell_the_same_time(milliseconds: int) -> None:
    """Whichever a client makes."""
    assert made_s(derived_request_id("s", 1, milliseconds)) == milliseconds / 1000


def test_an_id_may_be_used_again_when_the_broker_may_have_forgotten_it() -> None:
    """Which is sooner than it has: clocks differ."""
    made = made_s(UUID7)
    assert not may_be_used_again(UUID7, made + 59, 120)
    assert may_be_used_again(UUID7, made + 61, 120)
    assert not may_be_used_again(UUID7, made - 3600, 120)


def test_fresh_ids_are_valid_different_and_in_order_of_time() -> None:
    """Made one after the other by one process."""
    made = [new_request_id() for _ in range(1000)]
    assert all(map(is_request_id, made))
    assert len(set(made)) == 1000
    assert made == sorted(made)


@settings(derandomize=True)
@given(st.text(max_size=20), st.integers(0, 2**64), TIMES)
def test_a_derived_id_is_a_uuid_of_its_place_and_time(stream: str, sequence: int, time_ms: int) -> None:
    """The same at every delivery; its time can be read from it."""
    made = derived_request_id(stream, sequence, time_ms)
    assert made == derived_request_id(stream, sequence, time_ms)
    assert is_request_id(made)
    parsed = uuid.UUID(made)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == time_ms


def test_a_derived_id_does_not_change_between_versions() -> None:
    """A message that was delivered to an old router keeps its id at a new one."""
    assert derived_request_id("HEADRACE_REQUESTS", 1, 0) == "00000000-0000-76af-9ee6-209a417ba1c1"


@settings(derandomize=True)
@given(TIMES, TIMES, st.integers(1, 99), st.integers(1, 99))
def test_derived_ids_sort_by_time(one_ms: int, other_ms: int, one: int, other: int) -> None:
    """As text."""
    if one_ms < other_ms:
        assert derived_request_id("S", one, one_ms) < derived_request_id("S", other, other_ms)


def test_each_place_has_its_own_id() -> None:
    """Of the same millisecond: another sequence number or another stream."""
    places = [("S", 1), ("S", 2), ("T", 1), ("S/1", 1), ("S", 11)]
    assert len({derived_request_id(stream, sequence, 7) for stream, sequence in places}) == len(places)
