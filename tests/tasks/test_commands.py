"""`headrace embed` and `headrace translate`, and what a calibration measures of such models."""

from __future__ import annotations

import asyncio
import json
import sys

import numpy as np
import pytest

from headrace.contract.values import Task
from headrace.contract.work import Device
from headrace.models.store import ModelStore
from headrace.router.core.cost import CostModel
from headrace.worker.calibrate import BATCHES, CONTEXTS, TEXT_BATCHES, TEXT_CONTEXTS, Asked, calibrate
from headrace.worker.shape import Shape
from tests.integration.local_mesh import LIMIT_S, LocalMesh
from tests.tasks.conftest import ENCODER, TRANSLATOR, Direct

pytestmark = pytest.mark.integration

NO_STEP_S = 5e-6
"""Less than any engine computes in."""
in_module = pytest.mark.asyncio(loop_scope="module")


async def command(mesh: LocalMesh, *words: str, given: str = "") -> tuple[int, str, str]:
    """Exit code, output, errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace.cli", *words, "--address", mesh.gateway_address),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(LIMIT_S):
        out, told = await process.communicate(given.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), told.decode()


@in_module
async def test_embed_prints_a_vector_a_line(mesh: LocalMesh, encoder: Direct) -> None:
    """Of the arguments, or of the lines of standard input; the model is the only one that embeds."""
    texts = ["hello", "a longer text"]
    (code, out, told), (_, read, _) = await asyncio.gather(
        command(mesh, "embed", *texts), command(mesh, "embed", "-", given="hello\n\na longer text\n")
    )
    assert code == 0, told
    assert "2 texts" in told
    vectors = [json.loads(line) for line in out.splitlines()]
    assert encoder.serving.encoder is not None
    wanted = [encoder.serving.encoder.embed([ids])[0] for ids in encoder.framing.texts(texts)]
    assert np.allclose(vectors, [np.frombuffer(vector, "<f4") for vector in wanted], atol=1e-5)
    assert np.allclose([json.loads(line) for line in read.splitlines()], vectors, atol=1e-5)


@in_module
async def test_translate_prints_the_translation(mesh: LocalMesh, translator: Direct) -> None:
    """Into the language that is named; one that the model does not know is refused with those that it does."""
    (code, out, told), (refused, _, why) = await asyncio.gather(
        command(mesh, "translate", "--to", "fra", "--max-tokens", "8", "--json", "hello"),
        command(mesh, "translate", "--to", "xyz", "hello"),
    )
    assert code == 0, told
    events = [json.loads(line) for line in out.splitlines()]
    assert events[0]["event"] == "accepted"
    assert sum(len(event["token_ids"]) for event in events if event["event"] == "tokens") == 8
    assert events[-1]["model"] == TRANSLATOR
    assert refused != 0
    assert "it knows deu, fra" in why


@pytest.mark.parametrize(("name", "task"), [(ENCODER, Task.EMBED), (TRANSLATOR, Task.TRANSLATE)])
def test_a_calibration_measures_what_a_model_of_the_task_does(
    task_store: ModelStore, name: str, task: Task
) -> None:
    """Of one that embeds the passes, over texts and lengths, and no steps; of one that translates both."""
    device = Device(kind="cpu", cores=1, compute_types=("float32",))
    asked = Asked(device=device, compute_type="float32", shape=Shape(1, 1), seconds=3.0)
    measured = calibrate(task_store, name, asked, lambda what, share: None)
    cost = CostModel(measured.cost, task)
    assert cost.prefill(16, 32) > cost.prefill(1, 32) > 0
    prefill = measured.cost.prefill
    texts, lengths = (TEXT_BATCHES, TEXT_CONTEXTS) if task is Task.EMBED else (BATCHES, CONTEXTS)
    assert prefill.batches == texts[: len(prefill.batches)], "as many as there was time for"
    assert prefill.contexts == lengths[: len(prefill.contexts)]
    assert (min(measured.cost.step.seconds) < NO_STEP_S) is (task is Task.EMBED)
