from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.detokeniser import Detokeniser
from headrace.models.tokeniser import Tokeniser
from tests.models.tiny_gguf import TOKENS

ANY_IDS = st.lists(st.integers(min_value=0, max_value=len(TOKENS) - 1))


def pieces(tokeniser: Tokeniser, ids: list[int]) -> list[str]:
    detokeniser = Detokeniser(tokeniser)
    return [*(detokeniser.push(i) for i in ids), detokeniser.flush()]


@given(ids=ANY_IDS)
def test_the_pieces_together_are_the_whole(tiny_tokeniser: Tokeniser, ids: list[int]) -> None:
    """Any sequence of tokens, valid text or not: the pieces add up to the decoding of the whole."""
    assert "".join(pieces(tiny_tokeniser, ids)) == tiny_tokeniser.decode(ids)


@given(ids=ANY_IDS)
def test_the_whole_is_what_the_library_decodes(tiny_tokeniser: Tokeniser, ids: list[int]) -> None:
    """Our decoding is that of the `tokenizers` library."""
    assert tiny_tokeniser.decode(ids) == tiny_tokeniser._tokenizer.decode(ids, skip_special_tokens=True)


@given(text=st.text())
def test_no_piece_holds_half_a_character(tiny_tokeniser: Tokeniser, text: str) -> None:
    """For real text no piece has a replacement character that the text has not, and nothing is left for the flush."""
    found = pieces(tiny_tokeniser, tiny_tokeniser.encode(text))
    assert "".join(found) == text
    assert found[-1] == ""


@given(ids=ANY_IDS, cut=st.integers(min_value=0))
def test_a_replay_goes_on_exactly(tiny_tokeniser: Tokeniser, ids: list[int], cut: int) -> None:
    """A second detokeniser that is fed the first tokens silently goes on with the same pieces."""
    cut = min(cut, len(ids))
    resumed = Detokeniser(tiny_tokeniser)
    for i in ids[:cut]:
        resumed.push(i)
    assert [*(resumed.push(i) for i in ids[cut:]), resumed.flush()] == pieces(tiny_tokeniser, ids)[cut:]


def test_a_character_of_four_tokens_comes_with_the_last(tiny_tokeniser: Tokeniser) -> None:
    """Each byte of 👍 is a token here: three empty pieces, then the character. Special tokens between do not matter."""
    ids = tiny_tokeniser.encode("👍")
    assert pieces(tiny_tokeniser, ids) == ["", "", "", "👍", ""]
    assert pieces(tiny_tokeniser, [*ids[:2], 2, *ids[2:]]) == ["", "", "", "", "👍", ""]


def test_a_dangling_character_is_replaced_at_the_flush(tiny_tokeniser: Tokeniser) -> None:
    """What was never finished becomes U+FFFD, once; then the detokeniser is as new."""
    detokeniser = Detokeniser(tiny_tokeniser)
    first, *_ = tiny_tokeniser.encode("é")
    assert detokeniser.push(first) == ""
    assert detokeniser.flush() == "\ufffd"
    assert detokeniser.flush() == ""
    assert [detokeniser.push(i) for i in tiny_tokeniser.encode("é")] == ["", "é"]


def test_an_id_outside_the_vocabulary_is_our_bug(tiny_tokeniser: Tokeniser) -> None:
    """It raises."""
    with pytest.raises(IndexError):
        Detokeniser(tiny_tokeniser).push(len(TOKENS))


def test_the_cost_of_a_token_does_not_grow(tiny_tokeniser: Tokeniser) -> None:
    """The last thousand of 200,000 tokens take about as long as the first; re-decoding would take 200 times as long."""
    detokeniser = Detokeniser(tiny_tokeniser)
    ids = tiny_tokeniser.encode("the thing ")[:8] * 125

    def thousand() -> float:
        start = time.perf_counter()
        for i in ids:
            detokeniser.push(i)
        return time.perf_counter() - start

    taken = [thousand() for _ in range(200)]
    assert min(taken[-20:]) < 5 * min(taken[:20])
