"""Imported models that translate and embed, through a mesh of real processes, against what transformers computed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import ctranslate2
import numpy as np
import pytest
import pytest_asyncio

from headrace.client.client import HeadraceClient
from headrace.contract.values import Outcome, OutcomeKind, TokenChunk
from headrace.models.importing import ModelSource, import_model
from headrace.models.store import ModelStore
from headrace.models.tokeniser import Tokeniser
from tests.integration.processes import Processes
from tests.models.references.reference import FOLDER, GENERATED, read_reference

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

TRANSLATORS = ("marian", "m2m100", "t5")
ENCODERS = ("bert", "xlm-roberta")


@pytest.fixture(scope="module")
def references_store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """From CTranslate2 folders."""
    store = ModelStore(tmp_path_factory.mktemp("references"))
    for name in TRANSLATORS + ENCODERS:
        source = ModelSource(path=read_reference(FOLDER / name).source, name=name)
        import_model(store, source, lambda done, total: None)
    return store


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(
    references_store: ModelStore, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Processes]:
    async with Processes(tmp_path_factory.mktemp("mesh"), models=references_store.root) as running:
        yield running


@pytest.mark.parametrize("name", TRANSLATORS)
async def test_translations_are_transformers_own(
    mesh: Processes, references_store: ModelStore, name: str
) -> None:
    """Token for token, all texts at once; the text is those tokens', with no space before its first word."""
    model = references_store.open(name)
    tokeniser, ends = Tokeniser.load(model), model.manifest.end_token_ids
    source, target = ("en", "fr") if model.manifest.languages else ("", "")

    async def translated(client: HeadraceClient, text: str) -> tuple[list[TokenChunk], Outcome]:
        events = client.translate(
            model=name, text=text, source_language=source, target_language=target, max_tokens=GENERATED
        )
        found = [event async for event in events if isinstance(event, TokenChunk | Outcome)]
        assert isinstance(found[-1], Outcome)
        return [event for event in found if isinstance(event, TokenChunk)], found[-1]

    runs = read_reference(FOLDER / name).runs
    async with HeadraceClient(mesh.address) as client:
        heard = await asyncio.gather(*(translated(client, run.text) for run in runs))
    for run, (chunks, outcome) in zip(runs, heard, strict=True):
        assert outcome.kind is OutcomeKind.COMPLETED, outcome.failure
        assert [i for chunk in chunks for i in chunk.token_ids if i not in ends] == run.greedy
        assert "".join(chunk.text for chunk in chunks) == tokeniser.decode(run.greedy)
        assert outcome.usage.prompt_tokens == len(run.ids)


@pytest.mark.parametrize("name", ENCODERS)
async def test_vectors_are_made_of_the_encoders_states(
    mesh: Processes, references_store: ModelStore, name: str
) -> None:
    """The mean of the hidden states of the tokens that transformers makes of a text, of length 1. That the states are
    transformers' own is told by the models' tests.
    """
    model = references_store.open(name)
    assert model.manifest.pooling == "mean"
    tokens, runs = Tokeniser.load(model).tokens, read_reference(FOLDER / name).runs
    async with HeadraceClient(mesh.address) as client:
        outcome = await client.embed([run.text for run in runs], model=name)
    engine: Any = ctranslate2.Encoder(str(model.path), compute_type="float32", intra_threads=1)
    assert len(outcome.vectors) == len(runs)
    for run, vector in zip(runs, outcome.embeddings, strict=True):
        output = engine.forward_batch([[tokens[i] for i in run.ids]])
        mean = np.asarray(output.last_hidden_state)[0].mean(axis=0)
        assert np.abs(np.asarray(vector) - mean / np.linalg.norm(mean)).max() < 1e-5
