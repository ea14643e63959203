"""The text of an entry is a function of its tokens alone."""

from __future__ import annotations

import functools
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contract.values import FinishReason
from headrace.models.detokeniser import Detokeniser
from headrace.models.fake import install_fake_model
from headrace.models.store import ModelStore
from headrace.models.tokeniser import Tokeniser
from headrace.worker.text import EntryText

END = 257
BYTES = st.lists(st.sampled_from([*"aé日🙂ab".encode(), 0xE6, END]), max_size=40)
STOPS = st.lists(st.sampled_from(["a", "ab", "é", "日a", "🙂", "ba"]), max_size=2)


@functools.cache
def tokeniser() -> Tokeniser:
    return Tokeniser.load(install_fake_model(ModelStore(Path(mkdtemp()))))


def text_of(stop: list[str], limit: int = 1000) -> EntryText:
    return EntryText(Detokeniser(tokeniser()), stop=stop, end_ids={END}, limit=limit)


def run(text: EntryText, ids: list[int]) -> tuple[list[str], FinishReason | None]:
    pieces = []
    for token_id in ids:
        piece, finish = text.push(token_id)
        pieces.append(piece)
        if finish is not None:
            return pieces, finish
    return pieces, None


@given(ids=BYTES, stop=STOPS, limit=st.integers(1, 30), data=st.data())
def test_a_resumed_entry_goes_on_as_if_nothing_had_happened(
    ids: list[int], stop: list[str], limit: int, data: st.DataObject
) -> None:
    """Wherever it is cut: replayed tokens and the rest give the same pieces and the same end as the whole."""
    pieces, finish = run(text_of(stop, limit), ids)
    made = ids[: len(pieces)]
    cut = data.draw(st.integers(0, len(made)))
    resumed = text_of(stop, limit)
    ended = resumed.replay(made[:cut])
    assert ended == (finish if cut == len(made) else None)
    if ended is None:
        assert run(resumed, made[cut:]) == (pieces[cut:], finish)


@given(ids=BYTES)
def test_together_the_pieces_are_the_decoded_whole(ids: list[int]) -> None:
    """Nothing is lost between the pieces, and the end token has no text."""
    ids = [token_id for token_id in ids if token_id != END]
    pieces, _ = run(text_of([]), [*ids, END])
    assert "".join(pieces) == tokeniser().decode(ids)


@given(text=st.text(max_size=20))
def test_a_character_is_never_shown_in_halves(text: str) -> None:
    """Of valid UTF-8, no piece holds a replacement character."""
    pieces, _ = run(text_of([]), list(text.replace("\ufffd", "").encode()))
    assert "\ufffd" not in "".join(pieces)


def test_the_end_token_ends_and_shows_what_was_held_back() -> None:
    """END comes after the held-back beginning of a stop string, which turned out to be text."""
    text = text_of(["stop"])
    assert [text.push(byte) for byte in b"as"] == [("a", None), ("", None)]
    assert text.push(END) == ("s", FinishReason.END)


def test_the_limit_ends_with_the_held_back_text() -> None:
    """LENGTH shows what was held back, an unfinished character as U+FFFD."""
    text = text_of(["xyz"], limit=3)
    pieces, finish = run(text, [*b"ax", 0xC3])
    assert (pieces, finish) == (["a", "", "x\ufffd"], FinishReason.LENGTH)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_stop_string_across_tokens_ends_with_its_last_token(cut: int) -> None:
    """STOP comes with the token that completes it; neither it nor what follows it in that token is shown."""
    text = text_of(["b日"], limit=100)
    pieces, finish = run(text, list("ab日c".encode()))
    assert ("".join(pieces), finish, len(pieces)) == ("a", FinishReason.STOP, 5)
    assert text_of(["b日"]).replay(list("ab日".encode())[:cut]) is None
