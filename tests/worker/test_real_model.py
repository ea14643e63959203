"""SmolLM2 through a whole worker, against CTranslate2 called directly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ctranslate2
import pytest

from headrace.contract.values import FinishReason, Sampling
from headrace.models.store import StoredModel
from headrace.models.template import ChatTemplate
from headrace.models.tokeniser import Tokeniser
from tests.worker.conftest import WorkerFor
from tests.worker.fake_router import FakeRouter
from tests.worker.tiny_model import batch, entry

pytestmark = [pytest.mark.model, pytest.mark.integration]

QUESTIONS = [
    "What is the capital of France?",
    "Name three colours.",
    "Say hello with some emoji 🙂🎉 and the word “naïve”.",
]


@pytest.fixture(scope="module")
def tokeniser(smollm2: StoredModel) -> Tokeniser:
    return Tokeniser.load(smollm2)


@pytest.fixture(scope="module")
def prompts(smollm2: StoredModel, tokeniser: Tokeniser) -> list[tuple[int, ...]]:
    template = ChatTemplate.of(smollm2)
    assert template is not None
    return [tuple(tokeniser.encode_chat(template, [("user", question)])) for question in QUESTIONS]


@pytest.fixture(scope="module", params=["int8", "float32"])
def compute_type(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def direct(compute_type: str, smollm2: StoredModel) -> Iterator[ctranslate2.Generator]:
    """The engine, without anything of ours."""
    generator = ctranslate2.Generator(
        str(smollm2.path), device="cpu", compute_type=compute_type, intra_threads=1
    )
    yield generator
    generator.unload_model()


def directly(
    generator: ctranslate2.Generator, tokeniser: Tokeniser, ids: Sequence[int], count: int
) -> list[int]:
    (result,) = generator.generate_batch(
        [[tokeniser.tokens[token] for token in ids]],
        max_length=count,
        include_prompt_in_result=False,
        return_end_token=True,
    )
    made: list[int] = result.sequences_ids[0]
    return made


async def test_greedy_output_is_the_engine_s_own(
    router: FakeRouter,
    worker_for: WorkerFor,
    smollm2: StoredModel,
    tokeniser: Tokeniser,
    prompts: list[tuple[int, ...]],
    compute_type: str,
    direct: ctranslate2.Generator,
) -> None:
    """Token for token, alone and in a batch of equal lengths; the text is the decoded tokens, without the end
    token.
    """
    options = options_of(smollm2, compute_type)
    equal = [ids[-30:] for ids in prompts]
    async with worker_for(router.address, **options):
        stream = await router.stream()
        for number, ids in enumerate(prompts):
            heard = (await stream.run(batch(number, entry(number, ids, 40), model="smollm2")))[number]
            assert heard.token_ids == directly(direct, tokeniser, ids, 40)
            ended = heard.end is not None and heard.end.finish_reason is FinishReason.END
            assert ended == (heard.token_ids[-1] in smollm2.manifest.end_token_ids)
            assert heard.text == tokeniser.decode(heard.token_ids)
        entries = [entry(10 + number, ids, 30) for number, ids in enumerate(equal)]
        together = await stream.run(batch(10, *entries, model="smollm2"))
        for number, ids in enumerate(equal):
            assert together[10 + number].token_ids == directly(direct, tokeniser, ids, 30)


async def test_a_resumed_answer_goes_on_exactly(
    router: FakeRouter, worker_for: WorkerFor, smollm2: StoredModel, prompts: list[tuple[int, ...]]
) -> None:
    """In float32, at several cuts: tokens, text and end are those of the undisturbed run."""
    async with worker_for(router.address, **options_of(smollm2, "float32")):
        stream = await router.stream()
        number = 0
        for ids in prompts:
            number += 1
            whole = (await stream.run(batch(number, entry(number, ids, 24), model="smollm2")))[number]
            for cut in range(1, len(whole.token_ids), 5):
                number += 1
                before = tuple(whole.token_ids[:cut])
                resumed = await stream.run(
                    batch(number, entry(number, ids, 24, generated=before), model="smollm2")
                )
                rest = resumed[number]
                assert rest.first_index == cut
                assert rest.token_ids == whole.token_ids[cut:]
                assert whole.text.endswith(rest.text)
                assert rest.end == whole.end


async def test_sampled_tokens_never_make_half_a_character(
    router: FakeRouter, worker_for: WorkerFor, smollm2: StoredModel, prompts: list[tuple[int, ...]]
) -> None:
    """However wild the sampling, the chunks together are the decoded tokens: none was cut within a character."""
    async with worker_for(router.address, **options_of(smollm2, "int8")):
        stream = await router.stream()
        entries = [entry(number, prompts[2], 60) for number in range(4)]
        wild = Sampling(temperature=1.2, top_k=50, repetition_penalty=1.1)
        heard = await stream.run(batch(1, *entries, model="smollm2", sampling=wild))
        tokeniser = Tokeniser.load(smollm2)
        for one in heard.values():
            assert one.text == tokeniser.decode(one.token_ids)
        assert len({tuple(one.token_ids) for one in heard.values()}) > 1


def options_of(model: StoredModel, compute_type: str) -> dict[str, object]:
    return {
        "models": str(model.path.parent),
        "worker.models": "smollm2",
        "worker.compute_type": compute_type,
    }
