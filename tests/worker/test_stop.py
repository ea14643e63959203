"""Stop strings, against looking for them in the whole text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.worker.stop import StopMatcher

LETTERS = st.text("abc", max_size=30)
STOPS = st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=4)


def cut(text: str, stops: list[str]) -> tuple[str, bool]:
    """The text before the stop string that is completed first, the longest of those completed together."""
    ends = [(text.find(stop) + len(stop), -len(stop)) for stop in stops if stop in text]
    if not ends:
        return text, False
    end, length = min(ends)
    return text[: end + length], True


def feed(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    matcher = StopMatcher(stops)
    shown = ""
    for piece in pieces:
        safe, found = matcher.push(piece)
        shown += safe
        if found:
            return shown, True
    return shown + matcher.flush(), False


@given(pieces=st.lists(LETTERS, max_size=12), stops=STOPS)
def test_the_pieces_make_no_difference(pieces: list[str], stops: list[str]) -> None:
    """However a text is cut into tokens, what is shown is the whole text up to the first stop string."""
    assert feed(pieces, stops) == cut("".join(pieces), stops)


@given(pieces=st.lists(LETTERS, max_size=12), stops=STOPS)
def test_nothing_of_a_stop_string_is_shown_early(pieces: list[str], stops: list[str]) -> None:
    """At any time what was shown is a beginning of what will be shown in the end."""
    whole, _ = cut("".join(pieces), stops)
    matcher = StopMatcher(stops)
    shown = ""
    for piece in pieces:
        safe, found = matcher.push(piece)
        shown += safe
        assert whole.startswith(shown)
        if found:
            break


def test_only_what_may_begin_a_stop_string_is_held_back() -> None:
    """Text leaves as soon as it cannot belong to a stop string any more."""
    matcher = StopMatcher(["END", "\n\nUser:"])
    assert matcher.push("The") == ("The", False)
    assert matcher.push(" E") == (" ", False)
    assert matcher.push("N") == ("", False)
    assert matcher.push("E") == ("EN", False)
    assert matcher.push("x\n") == ("Ex", False)
    assert matcher.flush() == "\n"


def test_overlapping_prefixes_are_followed() -> None:
    """A failed beginning may hold the real one: `aab` in `aaab`."""
    assert feed(list("xaaab!"), ["aab"]) == ("xa", True)
