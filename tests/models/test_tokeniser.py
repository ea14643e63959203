from __future__ import annotations

import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contract.errors import InvalidRequest
from headrace.models.errors import DamagedModel
from headrace.models.fake import install_fake_model
from headrace.models.special import SpecialTokens, choose_guard
from headrace.models.store import ModelStore
from headrace.models.template import ChatTemplate
from headrace.models.token_bytes import byte_alphabet
from headrace.models.tokeniser import Tokeniser
from tests.models.tiny_gguf import CHATML, SPECIALS, TOKENS, USER_DEFINED

TRICKY = [
    "",
    " ",
    "\n\n\t \n",
    "  two leading spaces",
    "trailing spaces  ",
    "the thing in the 12 things",
    "naïve café, Übergrößenträger",
    "e\u0301 as two code points, é as one",
    "東京は日本の首都です。",
    "한국어 مرحبا עברית ไทย",
    "👩‍👩‍👧‍👦 family, 🇫🇷 flag, 👍🏽",
    "a\u0000b\u007f\u0080\ufeff\u200b",
    "١٢٣ ½ ² Ⅷ",
    "don't I'LL we've 'S",
    "C:\\path\\{x}[1] => `code`; <b>bold</b>",
    "\U0010ffff\ud7ff\ue000",
]


def specials_of(tokeniser: Tokeniser) -> dict[str, int]:
    return {tokeniser.tokens[i]: i for i in tokeniser.special_ids}


def encode_with_specials(tokeniser: Tokeniser, text: str) -> list[int]:
    """What the `tokenizers` library makes of a text in which special tokens are recognised."""
    tokeniser._tokenizer.encode_special_tokens = False
    try:
        return list(tokeniser._tokenizer.encode(text, add_special_tokens=False).ids)
    finally:
        tokeniser._tokenizer.encode_special_tokens = True


@pytest.mark.parametrize("text", TRICKY)
def test_text_comes_back_exactly(tiny_tokeniser: Tokeniser, text: str) -> None:
    """decode(encode(text)) is text, whatever is in it: nothing is normalised, added or lost."""
    assert tiny_tokeniser.decode(tiny_tokeniser.encode(text)) == text


@given(text=st.text())
def test_any_text_comes_back_exactly(tiny_tokeniser: Tokeniser, text: str) -> None:
    """The same for any text."""
    assert tiny_tokeniser.decode(tiny_tokeniser.encode(text)) == text


def test_a_special_tokens_spelling_is_text(tiny_tokeniser: Tokeniser) -> None:
    """Special tokens in a text are the characters they consist of; user-defined tokens are themselves."""
    text = "a<|im_end|>b<|im_start|><|endoftext|>"
    ids = tiny_tokeniser.encode(text)
    assert not tiny_tokeniser.special_ids & set(ids)
    assert tiny_tokeniser.decode(ids) == text
    assert tiny_tokeniser.encode("a<tool>b")[1] == TOKENS.index(USER_DEFINED[0])


def test_tokens_are_unique_and_in_order(tiny_tokeniser: Tokeniser) -> None:
    """`tokens` is the engine's vocabulary: one string per id, none twice."""
    assert list(tiny_tokeniser.tokens) == TOKENS
    assert len(set(tiny_tokeniser.tokens)) == len(TOKENS)
    assert {tiny_tokeniser.tokens[i] for i in tiny_tokeniser.special_ids} == set(SPECIALS)


def test_special_tokens_have_no_text(tiny_tokeniser: Tokeniser) -> None:
    """decode leaves special tokens out."""
    assert tiny_tokeniser.decode([1, *tiny_tokeniser.encode("hi"), 2, 0]) == "hi"


def test_a_prompt_begins_with_bos_where_the_model_wants_it(tiny_tokeniser: Tokeniser) -> None:
    """encode_prompt adds the bos token if there is one, and nothing otherwise."""
    assert tiny_tokeniser.encode_prompt("hi") == tiny_tokeniser.encode("hi")
    wanting = Tokeniser(tiny_tokeniser._tokenizer, bos_id=1)
    assert wanting.encode_prompt("hi") == [1, *wanting.encode("hi")]


def test_encoding_from_several_threads_is_the_same(tiny_tokeniser: Tokeniser) -> None:
    """Threads do not disturb one another."""
    expected = [tiny_tokeniser.encode(text) for text in TRICKY]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: [tiny_tokeniser.encode(text) for text in TRICKY], range(32)):
            assert found == expected


def test_a_missing_or_broken_file_is_a_clear_error(store: ModelStore) -> None:
    """A model whose tokeniser cannot be read is damaged."""
    model = install_fake_model(store)
    (model.path / "tokenizer.json").write_text("{")
    with pytest.raises(DamagedModel, match=r"tokenizer\.json"):
        Tokeniser.load(model)
    with pytest.raises(DamagedModel, match=r"tokenizer\.json"):
        Tokeniser.load(Path("/nowhere/tiny"))


def test_the_byte_alphabet_is_a_bijection_of_printable_characters() -> None:
    """256 different characters for 256 bytes, none of them a space or a control character."""
    alphabet = byte_alphabet()
    assert sorted(alphabet.values()) == list(range(256))
    assert all(unicodedata.category(c)[0] not in "CZ" for c in alphabet)


CONTENTS = st.lists(
    st.one_of(
        st.text(max_size=6),
        st.sampled_from(
            ["<|im_end|>", "<|im_", "end|>", "<", "|>", "<|", "\n", " ", "<|IM_START|>", "<tool>"]
        ),
    ),
    max_size=5,
).map("".join)
CHATS = st.lists(
    st.tuples(st.sampled_from(["system", "user", "assistant"]), CONTENTS), min_size=1, max_size=4
)


@given(chat=CHATS)
def test_messages_cannot_make_special_tokens(tiny_tokeniser: Tokeniser, chat: list[tuple[str, str]]) -> None:
    """Whatever the messages hold, the special tokens are the template's own and the text is the messages' own."""
    ids = tiny_tokeniser.encode_chat(ChatTemplate(CHATML), chat)
    specials = [i for i in ids if i in tiny_tokeniser.special_ids]
    start, end = SPECIALS.index("<|im_start|>"), SPECIALS.index("<|im_end|>")
    assert specials == [start, end] * len(chat) + [start]
    expected = "".join(f"{role}\n{content}\n" for role, content in chat) + "assistant\n"
    assert tiny_tokeniser.decode(ids) == expected


@given(
    chat=st.lists(
        st.tuples(st.sampled_from(["system", "user"]), st.text(max_size=20)), min_size=1, max_size=4
    )
)
def test_an_ordinary_chat_is_encoded_as_usual(tiny_tokeniser: Tokeniser, chat: list[tuple[str, str]]) -> None:
    """Without look-alikes the ids are those of the rendered text with its special tokens recognised."""
    template = ChatTemplate(CHATML)
    assert tiny_tokeniser.encode_chat(template, chat) == encode_with_specials(
        tiny_tokeniser, template.render(chat)
    )


def test_a_template_that_strips_still_strips(tiny_tokeniser: Tokeniser) -> None:
    """The guard does not hide a message's white space from `trim`, and look-alikes stay text after it."""
    template = ChatTemplate("{{ '<|im_start|>' }}{{ messages[0]['content'] | trim }}{{ '>x' }}")
    assert tiny_tokeniser.decode(tiny_tokeniser.encode_chat(template, [("user", "  hi \n")])) == "hi>x"
    ids = tiny_tokeniser.encode_chat(template, [("user", " <|im_end|\n")])
    assert [i for i in ids if i in tiny_tokeniser.special_ids] == [1]
    assert tiny_tokeniser.decode(ids) == "<|im_end|>x"


def test_a_template_that_changes_case_makes_no_special_tokens(tiny_tokeniser: Tokeniser) -> None:
    """A look-alike in other letters stays text even where the template lowers them."""
    template = ChatTemplate("{{ messages[0]['content'] | lower }}")
    ids = tiny_tokeniser.encode_chat(template, [("user", "A <|IM_END|>")])
    assert not tiny_tokeniser.special_ids & set(ids)
    assert tiny_tokeniser.decode(ids) == "a <|im_end|>"


def test_a_guard_that_the_text_holds_is_not_used() -> None:
    """The guard occurs in none of the texts; a text with all of them is refused."""
    assert choose_guard(["a", "\U000f0000\U000f0001"]) == "\U000f0002"
    with pytest.raises(InvalidRequest):
        choose_guard(["".join(map(chr, range(0xF0000, 0xFFFFE)))])


def test_the_longest_special_token_wins() -> None:
    """Where one spelling begins another, the longer one is meant."""
    special = SpecialTokens({"<a>": 1, "<a><b>": 2})
    assert list(special.split("x<a><b>y<a>")) == [("x", 2), ("y", 1), ("", None)]


def test_a_vocabulary_without_special_tokens_leaves_text_alone() -> None:
    """No special tokens, nothing to find or to guard."""
    special = SpecialTokens({})
    assert list(special.split("<|im_end|>")) == [("<|im_end|>", None)]
    assert special.guarded("<|im_end|>", "g") == "<|im_end|>"


def test_loading_gives_the_same_tokeniser(store: ModelStore) -> None:
    """What was saved and loaded encodes special spellings as text too."""
    tokeniser = Tokeniser.load(install_fake_model(store))
    assert specials_of(tokeniser) == {"<|im_start|>": 256, "<|im_end|>": 257}
    assert tokeniser.encode("é<|im_end|>") == list("é<|im_end|>".encode())
