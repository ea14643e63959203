"""What the engine computes with imported models, against what transformers computed with the originals.

The references are committed (`tests/models/references`), so no torch is needed here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import numpy.typing as npt
import pytest

from headrace.models.detokeniser import Detokeniser
from headrace.models.importing import ModelSource, import_model
from headrace.models.store import ModelStore, StoredModel
from headrace.models.tokeniser import Tokeniser
from tests.models.references.reference import FOLDER as REFERENCES
from tests.models.references.reference import GENERATED, Reference, Run, committed, read_reference

ALL = committed()
TASKS = {name: read_reference(REFERENCES / name).task for name in ALL}
DECODERS = [name for name in ALL if TASKS[name] == "generate"]
EXACT = ["bloom", "falcon", "gemma3", "gpt2", "gptj", "llama", "mistral", "opt", "qwen2", "qwen3"]
"""Vocabularies that can write any text."""
COMPOSING = ["qwen2", "qwen3"]
SPELLING = ("<s>", "<|im_start|>")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Name → (reference, imported model), imported when first asked for."""
    store = ModelStore(tmp_path_factory.mktemp("references"))

    @cache
    def get(name: str) -> tuple[Reference, StoredModel]:
        reference = read_reference(REFERENCES / name)
        quantisation = "float32" if reference.source.suffix == ".gguf" else None
        asked = ModelSource(path=reference.source, name=name, quantisation=quantisation)
        return reference, import_model(store, asked, lambda done, total: None)

    return get


def assert_close(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> None:
    assert np.abs(found[-len(expected) :] - expected).max() < 1e-4
    assert np.abs(expected).max() > 0.5  # else anything would be close


def fed(run: Run) -> list[int]:
    """What the decoder had been given when the last logits were computed."""
    return run.greedy[:-1] if len(run.greedy) == GENERATED else run.greedy


def test_every_architecture_has_a_reference() -> None:
    """None of the architectures that the documentation names is left out."""
    named = "llama gptj bloom mistral qwen2 qwen3 gemma3 falcon opt gpt2 marian m2m100 t5 bert xlm-roberta"
    assert sorted(named.split()) == ALL


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_computes_the_same(models: Any, name: str) -> None:
    """Logits within 1e-4 of transformers', and the greedy output token for token."""
    reference, model = models(name)
    tokens = Tokeniser.load(model).tokens
    engine = ctranslate2.Generator(str(model.path), compute_type="float32", intra_threads=1)
    for run, expected in zip(reference.runs, reference.logits, strict=True):
        ids = run.ids + fed(run)
        logits = np.asarray(engine.forward_batch([[tokens[i] for i in ids]]))[0]
        assert_close(logits, expected)
        (result,) = engine.generate_batch(
            [[tokens[i] for i in run.ids]],
            max_length=GENERATED,
            end_token=list(model.manifest.end_token_ids),
            include_prompt_in_result=False,
        )
        assert [i for i in result.sequences_ids[0] if i not in model.manifest.end_token_ids] == run.greedy


@pytest.mark.parametrize("name", [name for name in ALL if TASKS[name] == "translate"])
def test_an_encoder_decoder_computes_the_same(models: Any, name: str) -> None:
    """Logits of the last steps within 1e-4, and the greedy output token for token."""
    reference, model = models(name)
    tokens = Tokeniser.load(model).tokens
    engine = ctranslate2.Translator(str(model.path), compute_type="float32", intra_threads=1)
    for run, expected in zip(reference.runs, reference.logits, strict=True):
        (result,) = engine.translate_batch(
            [[tokens[i] for i in run.ids]],
            target_prefix=[[tokens[i] for i in run.target[1:]]],
            beam_size=1,
            max_decoding_length=GENERATED + len(run.target) - 1,
            return_logits_vocab=True,
        )
        assert result.hypotheses[0][len(run.target) - 1 :] == [tokens[i] for i in run.greedy]
        logits = np.stack([np.asarray(step.to_device(ctranslate2.Device.cpu)) for step in result.logits[0]])
        assert_close(logits.reshape(len(logits), -1), expected)


@pytest.mark.parametrize("name", [name for name in ALL if TASKS[name] == "embed"])
def test_an_encoder_computes_the_same(models: Any, name: str) -> None:
    """The last hidden states of all tokens are within 1e-4."""
    reference, model = models(name)
    tokens = Tokeniser.load(model).tokens
    engine = ctranslate2.Encoder(str(model.path), compute_type="float32", intra_threads=1)
    for run, expected in zip(reference.runs, reference.logits, strict=True):
        output = engine.forward_batch([[tokens[i] for i in run.ids]])
        assert_close(np.asarray(output.last_hidden_state)[0], expected)


@pytest.mark.parametrize("name", ALL)
def test_texts_become_the_same_tokens(models: Any, name: str) -> None:
    """Prompts and tricky texts are tokenised as the original library does it."""
    reference, model = models(name)
    tokeniser = Tokeniser.load(model)
    texts = {t: ids for t, ids in reference.texts.items() if not any(s in t for s in SPELLING)}
    assert {text: tokeniser.encode(text) for text in texts} == texts
    for run in reference.runs:
        assert framed(model, tokeniser, run.text) == run.ids


def framed(model: StoredModel, tokeniser: Tokeniser, text: str) -> list[int]:
    """What the manifest says goes around a text. English to French, where the model wants to know."""
    manifest = model.manifest
    if manifest.task == "generate":
        return tokeniser.encode_prompt(text)
    languages = {"{source}": manifest.languages.get("en"), "{target}": manifest.languages.get("fr")}
    ids = {token: i for i, token in enumerate(tokeniser.tokens)}
    before, after = (
        [ids[languages.get(token) or token] for token in part]
        for part in (manifest.source_prefix, manifest.source_suffix)
    )
    return [*before, *tokeniser.encode(text), *after]


@pytest.mark.parametrize("name", ALL)
def test_special_tokens_in_a_text_stay_text(models: Any, name: str) -> None:
    """No text has a token of special meaning among its own, whatever it spells."""
    reference, model = models(name)
    tokeniser = Tokeniser.load(model)
    unknown = {tokeniser.tokens.index(t) for t in ("<unk>", "[UNK]") if t in tokeniser.tokens}
    for text in (*reference.texts, "".join(tokeniser.tokens[i] for i in sorted(tokeniser.special_ids))):
        assert not set(tokeniser.encode(text)) & (tokeniser.special_ids - unknown)


@pytest.mark.parametrize("name", EXACT)
def test_round_trips_are_exact(models: Any, name: str) -> None:
    """A text's tokens decode to that text, spaces at its ends included."""
    reference, model = models(name)
    tokeniser = Tokeniser.load(model)
    for text in reference.texts:
        expected = unicodedata.normalize("NFC", text) if name in COMPOSING else text
        assert tokeniser.decode(tokeniser.encode(text)) == expected


@pytest.mark.parametrize("continues", [False, True])
@pytest.mark.parametrize("name", [name for name in ALL if TASKS[name] != "embed"])
def test_pieces_make_up_the_whole(models: Any, name: str, continues: bool) -> None:
    """Detokenised one by one, tokens give the text that they give together; also such as end within a character."""
    reference, model = models(name)
    tokeniser = Tokeniser.load(model)
    for ids in sequences(reference):
        detokeniser = Detokeniser(tokeniser, continues=continues)
        pieces = [detokeniser.push(i) for i in ids]
        assert "".join([*pieces, detokeniser.flush()]) == tokeniser.decode(ids, continues=continues)


def sequences(reference: Reference) -> Sequence[list[int]]:
    whole = list(reference.texts.values())
    return [
        *whole,
        *(ids[:-1] for ids in whole),
        *(ids[1:] for ids in whole),
        *(r.greedy for r in reference.runs),
    ]


def test_references_are_small() -> None:
    """All of them together stay below 3 MB."""
    assert sum(path.stat().st_size for path in Path(REFERENCES).rglob("*") if path.is_file()) < 3_000_000
