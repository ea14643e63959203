"""That the mesh changes nothing about what the engine says."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from headrace.client.client import HeadraceClient
from headrace.models.pull import pull
from headrace.models.store import ModelStore, StoredModel, default_root
from tests.integration.processes import Processes
from tests.integration.test_real_model import directly

PROMPTS = tuple(
    f"{opening} {topic}"
    for opening in ("Once upon a time there was", "The history of", "A short poem about", "def")
    for topic in ("the river", "a mill", "bread")
)
TOKENS = 24


def real_model() -> StoredModel:
    """The real model, from the model store; pulled where it is not there yet."""
    root = Path(os.environ.get("HEADRACE_MODELS") or default_root())
    return pull(ModelStore(root), "smollm2").model


async def exact(folder: Path) -> Mapping[str, float]:
    """All at once through the mesh, so that batches form; one by one on the engine."""
    model = await asyncio.to_thread(real_model)
    expected = await asyncio.to_thread(directly, model, PROMPTS, TOKENS)
    async with Processes(folder, models=model.path.parent) as mesh, HeadraceClient(mesh.address) as client:
        outcomes = await asyncio.gather(
            *(client.complete(model="smollm2", prompt=prompt, max_tokens=TOKENS) for prompt in PROMPTS)
        )
    different = sum(outcome.token_ids != ids for outcome, ids in zip(outcomes, expected, strict=True))
    return {"differences": float(different)}
