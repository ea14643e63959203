"""Translations through a real mesh, equal to what the engine makes when it is called directly."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import ctranslate2
import pytest

from headrace.contract.errors import HeadraceError, InvalidRequest
from headrace.contract.values import FinishReason, Outcome, OutcomeKind, TokenChunk
from tests.integration.local_mesh import LIMIT_S, LocalMesh
from tests.models.tiny_tasks import CONTEXT, END, FRENCH, GERMAN
from tests.tasks.conftest import TRANSLATOR, Direct

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

TEXTS = ["hello", "x", "a text that is a good deal longer than the others", "naïve — 東京"]
LANGUAGES = {"fra": FRENCH, "deu": GERMAN}
NEW = 24


def directly(translator: Direct, text: str, language: str, beams: int) -> list[int]:
    """What CTranslate2 itself makes of one text, with nothing of ours between."""
    engine: Any = ctranslate2.Translator(str(translator.stored.path), device="cpu", compute_type="float32")
    tokens = translator.tokeniser.tokens
    (result,) = engine.translate_batch(
        [[*(tokens[i] for i in translator.tokeniser.encode(text)), END]],
        [[LANGUAGES[language]]],
        beam_size=beams,
        max_decoding_length=1 + NEW,
        return_end_token=True,
    )
    ids = {token: number for number, token in enumerate(tokens)}
    return [ids[token] for token in result.hypotheses[0][1:]]


async def heard(mesh: LocalMesh, text: str, language: str, **ask: Any) -> tuple[list[TokenChunk], Outcome]:
    """All chunks, and the end."""
    chunks: list[TokenChunk] = []
    async with asyncio.timeout(LIMIT_S):
        async for event in mesh.client.translate(
            model=TRANSLATOR, text=text, target_language=language, max_tokens=NEW, **ask
        ):
            if isinstance(event, TokenChunk):
                chunks.append(event)
            elif isinstance(event, Outcome):
                return chunks, event
    raise AssertionError("a stream ends with an outcome")


@pytest.mark.parametrize("beams", [1, 4])
async def test_output_is_the_engines_own_whatever_is_translated_beside_it(
    mesh: LocalMesh, translator: Direct, beams: int
) -> None:
    """Token for token, greedy and with beams, for several texts and languages at once; greedy comes as a stream, and
    the best of several beams as a whole.
    """
    asked = [(text, language) for text in TEXTS for language in LANGUAGES]
    all_heard = await asyncio.gather(*(heard(mesh, *one, beam_size=beams) for one in asked))
    for (text, language), (chunks, outcome) in zip(asked, all_heard, strict=True):
        made = [token for chunk in chunks for token in chunk.token_ids]
        assert made == directly(translator, text, language, beams)
        assert "".join(chunk.text for chunk in chunks) == translator.tokeniser.decode(made)
        assert outcome.finish_reason in (FinishReason.LENGTH, FinishReason.END)
        assert outcome.usage.output_tokens == len(made)
        assert len(chunks) == 1 or beams == 1


@pytest.mark.parametrize(
    ("ask", "field", "says"),
    [
        ({"text": "x" * CONTEXT}, "prompt", f"has {CONTEXT + 1} tokens; the context length is {CONTEXT}"),
        ({"text": ""}, "prompt", "nothing to translate"),
        ({"target_language": "xxx"}, "target_language", "it knows deu, fra"),
        ({"target_language": ""}, "target_language", "is needed; it knows deu, fra"),
        ({"source_language": "xxx"}, "source_language", "must be empty"),
        ({"max_tokens": CONTEXT}, "max_tokens", f"at most {CONTEXT - 1} are left"),
        ({"beam_size": 33}, "sampling.beam_size", "1 … 32"),
    ],
)
async def test_what_cannot_be_translated_is_refused_by_its_field(
    mesh: LocalMesh, ask: dict[str, Any], field: str, says: str
) -> None:
    """With what would be right."""
    good: dict[str, Any] = {"text": "hello", "target_language": "fra", "timeout_s": LIMIT_S}
    with pytest.raises(InvalidRequest) as refused:
        async for _ in mesh.client.translate(model=TRANSLATOR, **(good | ask)):
            pass
    assert refused.value.field == field
    assert says in str(refused.value)


async def test_over_nats_with_nothing_but_json(mesh: LocalMesh, translator: Direct) -> None:
    """Greedy: chunks with indices, as of a generation."""
    events = await mesh.nats.subscribe(reply_to := mesh.nats.new_inbox())
    ask = {
        "task": "TASK_TRANSLATE",
        "prompt": "hello",
        "target_language": "deu",
        "max_tokens": NEW,
        "reply_to": reply_to,
    }
    await mesh.nats.jetstream().publish(f"hr.v1.req.{TRANSLATOR}.high.default", json.dumps(ask).encode())
    made: list[int] = []
    while "finished" not in (event := json.loads((await events.next_msg(timeout=LIMIT_S)).data)):
        assert event["tokens"]["first_index"] == len(made)
        made += event["tokens"]["token_ids"]
    assert made == directly(translator, "hello", "deu", 1)


async def test_a_deadline_that_has_passed_costs_no_compute(mesh: LocalMesh) -> None:
    """As for every request."""
    with pytest.raises(HeadraceError):
        await heard(mesh, "hello", "fra", timeout_s=1e-9)


async def test_a_translation_that_is_submitted_is_fetched_later(mesh: LocalMesh, translator: Direct) -> None:
    """Whole, and also by who attaches to it."""
    asked = await mesh.client.submit(
        model=TRANSLATOR, task="translate", prompt="hello", target_language="fra", max_tokens=NEW
    )
    outcome = await mesh.client.result(asked.request_id, wait_s=LIMIT_S)
    assert list(outcome.token_ids) == directly(translator, "hello", "fra", 1)
    last = [event async for event in mesh.client.attach(asked.request_id)][-1]
    assert isinstance(last, Outcome)
    assert last.kind is OutcomeKind.COMPLETED


async def test_a_stop_string_ends_it(mesh: LocalMesh, translator: Direct) -> None:
    """As it ends a generation."""
    whole = translator.tokeniser.decode(directly(translator, TEXTS[2], "fra", 1))
    stop = whole[4:7]
    chunks, outcome = await heard(mesh, TEXTS[2], "fra", stop=[stop])
    assert outcome.finish_reason is FinishReason.STOP
    assert "".join(chunk.text for chunk in chunks) == whole[: whole.index(stop)]
