from __future__ import annotations

import pytest

from headrace.models.errors import DamagedModel
from headrace.models.fake import FakeTiming, install_fake_model, read_fake_timing
from headrace.models.store import ModelStore
from headrace.models.template import ChatTemplate
from headrace.models.tokeniser import Tokeniser


def test_its_tokens_are_bytes(store: ModelStore) -> None:
    """A byte is a token and its id its value; two control tokens follow."""
    model = install_fake_model(store)
    tokeniser = Tokeniser.load(store.verify("fake"))
    assert tokeniser.encode("héllo\n") == list("héllo\n".encode())
    assert len(tokeniser.tokens) == model.manifest.vocab_size == 258
    assert [tokeniser.tokens[i] for i in model.manifest.end_token_ids] == ["<|im_end|>"]


def test_it_chats_in_chatml(store: ModelStore) -> None:
    """Messages are rendered and encoded as with a real model."""
    model = install_fake_model(store)
    template = ChatTemplate.of(model)
    assert template is not None
    ids = Tokeniser.load(model).encode_chat(template, [("user", "hi")])
    assert ids == [256, *b"user\nhi", 257, *b"\n", 256, *b"assistant\n"]


def test_it_is_as_it_was_ordered(store: ModelStore) -> None:
    """Name, context length and timing are the caller's; the manifest says that it is a fake."""
    timing = FakeTiming(
        step_s=0.01, step_s_per_entry=0.001, prefill_s_per_token=0.0005, load_s=0.1, failing=0.25
    )
    install_fake_model(store, "slow", context_length=64, timing=timing)
    model = store.open("slow")
    assert (model.manifest.engine, model.manifest.context_length) == ("fake", 64)
    assert read_fake_timing(model) == timing


def test_installing_again_replaces_it(store: ModelStore) -> None:
    """Another timing is another version."""
    first = install_fake_model(store)
    second = install_fake_model(store, timing=FakeTiming(step_s=1))
    assert first.manifest.version != second.manifest.version
    assert read_fake_timing(store.open("fake")).step_s == 1


def test_a_timing_that_is_none_is_refused(store: ModelStore) -> None:
    """Negative times are a mistake; a broken file is a damaged model."""
    with pytest.raises(ValueError, match="step_s"):
        FakeTiming(step_s=-1)
    model = install_fake_model(store)
    for text in ("{", '{"speed": 1}', '{"step_s": -1}'):
        (model.path / "engine.json").write_text(text)
        with pytest.raises(DamagedModel, match=r"engine\.json"):
            read_fake_timing(model)
