"""Which prompts begin with a static prompt, by their tokens."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.client import Client

from headrace.contract.requests import ChatMessage, Request
from headrace.contract.static import StaticPrompts, encode_statics
from headrace.contract.values import Priority
from headrace.models.fake import install_fake_model
from headrace.models.store import ModelStore
from headrace.router.models import RouterModel, RouterModels
from headrace.router.statics import Statics, key_of
from headrace.runtime.bucket import Entry

SYSTEM = "You speak of mills and rivers."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> RouterModel:
    """The fake one: its tokens are bytes, its template ChatML."""
    store = ModelStore(tmp_path_factory.mktemp("models"))
    install_fake_model(store)
    models = RouterModels(store)
    models.look()
    found = models.get("fake")
    assert found is not None
    return found


def statics(*texts: str) -> Statics:
    made = Statics(Client())
    value = encode_statics(StaticPrompts(model="fake", prompts=texts))
    made._changed({"static.fake": Entry(value=value, revision=1)})  # as the watch does
    return made


def tokens(model: RouterModel, **fields: Any) -> tuple[int, ...]:
    return model.tokenise(Request(id="r", tenant="t", model="fake", priority=Priority.NORMAL, **fields))


def chat(system: str, user: str) -> dict[str, Any]:
    return {"messages": (ChatMessage(role="system", content=system), ChatMessage(role="user", content=user))}


def test_a_chat_with_the_system_prompt_matches_up_to_where_the_user_speaks(model: RouterModel) -> None:
    """The beginning of the user's message is part of the template, and so of what is kept."""
    prompt = tokens(model, **chat(SYSTEM, "hello"))
    matched = statics(SYSTEM).match(model, prompt)
    assert model.tokeniser.token_bytes[prompt[matched - 1]] == b"\n"
    other = tokens(model, **chat(SYSTEM, "another question"))
    assert other[:matched] == prompt[:matched]
    assert key_of(prompt, matched) == key_of(other, matched) != ""


def test_a_bare_prompt_that_begins_with_the_text_matches(model: RouterModel) -> None:
    """And one that only resembles it does not; nor does what leaves the engine nothing to do."""
    those = statics(SYSTEM)
    assert those.match(model, tokens(model, prompt=f"{SYSTEM}\nWhat is a race?")) >= len(SYSTEM)
    assert those.match(model, tokens(model, prompt=SYSTEM[:-1] + "! And?")) == 0
    assert those.match(model, tokens(model, prompt=SYSTEM)) == 0
    assert those.match(model, tokens(model, **chat("You speak of bread.", "hello"))) == 0


def test_the_longest_matches_and_short_ones_are_left_out(model: RouterModel) -> None:
    """What is shorter than some tokens spares nothing."""
    longer = SYSTEM + " Be brief."
    those = statics(SYSTEM, longer)
    assert those.match(model, tokens(model, prompt=f"{longer}\nWhat?")) >= len(longer)
    assert statics("Be brief.").match(model, tokens(model, prompt="Be brief.\nWhat is a race?")) == 0


def test_a_change_of_the_list_counts_at_once_and_nonsense_is_left_out(model: RouterModel) -> None:
    """Another list takes the place of the one before; what cannot be read is told in the log."""
    those = statics(SYSTEM)
    prompt = tokens(model, prompt=f"{SYSTEM}\nWhat?")
    assert those.match(model, prompt)
    those._changed({"static.fake": Entry(value=b"{", revision=2)})
    assert those.match(model, prompt) == 0


def test_hits_and_misses_are_counted_by_request(model: RouterModel) -> None:
    """Of a batch that computes it, all but the first are spared it."""
    those = statics(SYSTEM)
    those.started("fake", 3, 100, kept=False)
    those.started("fake", 2, 100, kept=True)
    (counts,) = those.counts()
    assert (counts.hits, counts.misses, counts.tokens) == (4, 1, 400)
