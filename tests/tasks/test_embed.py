"""Texts to vectors through a real mesh, equal to what the engine makes of each text alone."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from headrace.contract.errors import DuplicateRequest, HeadraceError, InvalidRequest
from headrace.contract.ids import new_request_id
from headrace.contract.values import OutcomeKind
from tests.integration.local_mesh import LIMIT_S, LocalMesh
from tests.models.tiny_tasks import CONTEXT, WIDTH
from tests.tasks.conftest import ENCODER, TRANSLATOR, Direct

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

TEXTS = ["hello", "a", "a rather longer text than the others", "", "naïve — 東京 😀", "</s> is text here"]
TEXTS = [text for text in TEXTS if text]
NEAR = 1e-5
"""Float32 sums that are padded otherwise differ in the last bits."""


def alone(encoder: Direct, texts: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """What the engine makes of each text by itself."""
    assert encoder.serving.encoder is not None
    made = [encoder.serving.encoder.embed([ids])[0] for ids in encoder.framing.texts(texts)]
    return np.stack([np.frombuffer(vector, "<f4") for vector in made])


async def test_vectors_are_the_engines_own_whatever_is_computed_beside_them(
    mesh: LocalMesh, encoder: Direct
) -> None:
    """Of length 1, in the order of the texts, however they were sorted and cut. What spells a special token is text."""
    many = [text * count for count in range(1, 4) for text in TEXTS]
    async with asyncio.timeout(LIMIT_S):
        lone, *others = await asyncio.gather(
            mesh.client.embed(TEXTS, model=ENCODER),
            mesh.client.embed(many, model=ENCODER),
            *(mesh.client.embed([text], model=ENCODER) for text in many),
        )
    assert np.allclose(lone.embeddings, alone(encoder, TEXTS), atol=NEAR)
    assert np.allclose(others[0].embeddings, alone(encoder, many), atol=NEAR)
    assert np.allclose([each.embeddings[0] for each in others[1:]], alone(encoder, many), atol=NEAR)
    assert np.allclose(np.linalg.norm(others[0].embeddings, axis=1), 1.0)
    assert {len(vector) for vector in others[0].embeddings} == {WIDTH}
    assert lone.kind is OutcomeKind.COMPLETED
    assert lone.usage.prompt_tokens == sum(map(len, encoder.framing.texts(TEXTS)))


@pytest.mark.parametrize(
    ("texts", "field", "says"),
    [
        (["fine", "x" * CONTEXT], "texts[1]", f"has {CONTEXT + 2} tokens; the context length is {CONTEXT}"),
        (["fine", ""], "texts[1]", "is empty"),
        ([], "texts", "must be 1 … 100 (were 0)"),
        (["x"] * 101, "texts", "must be 1 … 100 (were 101)"),
    ],
)
async def test_a_text_that_cannot_be_embedded_is_refused_by_its_place(
    mesh: LocalMesh, texts: list[str], field: str, says: str
) -> None:
    """With the limit; and whatever else is asked for goes on."""
    beside = asyncio.ensure_future(mesh.client.embed(["fine"], model=ENCODER))
    with pytest.raises(InvalidRequest) as refused:
        await mesh.client.embed(texts, model=ENCODER, timeout_s=LIMIT_S)
    assert refused.value.field == field
    assert says in str(refused.value)
    assert (await beside).kind is OutcomeKind.COMPLETED


async def test_a_model_is_asked_for_its_own_task(mesh: LocalMesh) -> None:
    """Every other is refused at the door, with what it is for."""
    with pytest.raises(InvalidRequest, match=f"{TRANSLATOR} is for translate, not for embed"):
        await mesh.client.embed(["hello"], model=TRANSLATOR)
    with pytest.raises(InvalidRequest, match=f"{ENCODER} is for embed, not for generate"):
        await mesh.client.complete(model=ENCODER, prompt="hello")
    assert {(model.name, model.task.value) for model in await mesh.client.models()} >= {
        ("fake", "generate"),
        (ENCODER, "embed"),
        (TRANSLATOR, "translate"),
    }


async def test_the_same_request_again_is_not_done_again(mesh: LocalMesh) -> None:
    """It gets the same vectors, from the outcome; another under its id is refused. Submitted, it is fetched later."""
    request_id = new_request_id()
    first = await mesh.client.embed(TEXTS, model=ENCODER, request_id=request_id)
    again = await mesh.client.embed(TEXTS, model=ENCODER, request_id=request_id)
    assert again.vectors == first.vectors
    assert again.usage.attempts == first.usage.attempts == 1
    with pytest.raises(DuplicateRequest):
        await mesh.client.embed(TEXTS[:1], model=ENCODER, request_id=request_id)
    submitted = await mesh.client.submit(model=ENCODER, task="embed", texts=TEXTS)
    later = await mesh.client.result(submitted.request_id, wait_s=LIMIT_S)
    assert later.vectors == first.vectors


async def test_over_nats_with_nothing_but_json(mesh: LocalMesh, encoder: Direct) -> None:
    """The end of the stream and the durable outcome both have the vectors, as numbers."""
    events = await mesh.nats.subscribe(reply_to := mesh.nats.new_inbox())
    ask = {"task": "TASK_EMBED", "texts": TEXTS, "reply_to": reply_to}
    await mesh.nats.jetstream().publish(f"hr.v1.req.{ENCODER}.normal.default", json.dumps(ask).encode())
    event = json.loads((await events.next_msg(timeout=LIMIT_S)).data)
    told = [one["values"] for one in event["finished"]["embeddings"]]
    assert np.allclose(told, alone(encoder, TEXTS), atol=NEAR)
    kept = await mesh.nats.jetstream().get_last_msg(
        "HEADRACE_RESULTS", f"hr.v1.res.default.{event['request_id']}"
    )
    assert [one["values"] for one in json.loads(kept.data or b"")["embeddings"]] == told


async def test_a_wrong_task_over_nats_is_rejected_with_the_field(mesh: LocalMesh) -> None:
    """Nobody checks it before the router does."""
    events = await mesh.nats.subscribe(reply_to := mesh.nats.new_inbox())
    ask = {"prompt": "hello", "reply_to": reply_to}
    await mesh.nats.jetstream().publish(f"hr.v1.req.{ENCODER}.normal.default", json.dumps(ask).encode())
    finished = json.loads((await events.next_msg(timeout=LIMIT_S)).data)["finished"]
    assert finished["kind"] == "OUTCOME_KIND_REJECTED"
    assert finished["error"]["field"] == "task"
    assert "which is for embed" in finished["error"]["message"]


async def test_a_deadline_that_has_passed_costs_no_compute(mesh: LocalMesh) -> None:
    """As for every request."""
    with pytest.raises(HeadraceError):
        await mesh.client.embed(["hello"], model=ENCODER, timeout_s=1e-9)
