"""Imported models of three architectures through a mesh of real processes, against what transformers computed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from headrace.client.client import HeadraceClient
from headrace.contract.errors import InvalidRequest
from headrace.models.importing import ModelSource, import_model
from headrace.models.store import ModelStore
from headrace.models.tokeniser import Tokeniser
from tests.integration.processes import Processes
from tests.models.references.reference import FOLDER, GENERATED, read_reference

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

NAMES = ("llama", "gptj", "bloom")


@pytest.fixture(scope="module")
def references_store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """Llama 2 from GGUF, GPT-J and BLOOM from CTranslate2 folders, in float32 or float16."""
    store = ModelStore(tmp_path_factory.mktemp("references"))
    for name in NAMES:
        source = read_reference(FOLDER / name).source
        quantisation = "float32" if source.suffix == ".gguf" else None
        import_model(
            store, ModelSource(path=source, name=name, quantisation=quantisation), lambda done, total: None
        )
    return store


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(
    references_store: ModelStore, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Processes]:
    async with Processes(tmp_path_factory.mktemp("mesh"), models=references_store.root) as running:
        yield running


@pytest.mark.parametrize("name", NAMES)
async def test_greedy_output_is_transformers_own(
    mesh: Processes, references_store: ModelStore, name: str
) -> None:
    """Text in, the tokens that transformers chooses out, at once for all prompts; the text is those tokens' text."""
    reference = read_reference(FOLDER / name)
    tokeniser = Tokeniser.load(references_store.open(name))
    ends = references_store.open(name).manifest.end_token_ids
    async with HeadraceClient(mesh.address) as client:
        outcomes = await asyncio.gather(
            *(client.complete(model=name, prompt=run.text, max_tokens=GENERATED) for run in reference.runs)
        )
    for run, outcome in zip(reference.runs, outcomes, strict=True):
        made = [token for token in outcome.token_ids if token not in ends]
        assert made == run.greedy
        assert outcome.text == tokeniser.decode(run.greedy, continues=True)
        assert outcome.usage.prompt_tokens == len(run.ids)


async def test_a_model_without_a_template_says_so(mesh: Processes) -> None:
    """Messages for a model that has no chat template are refused, with what to send instead."""
    async with HeadraceClient(mesh.address) as client:
        with pytest.raises(InvalidRequest, match="messages: model bloom has no chat template: send a prompt"):
            await client.complete(model="bloom", messages=[{"role": "user", "content": "x"}])
