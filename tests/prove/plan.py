"""That a model takes the memory that `headrace plan` says, measured on the real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from headrace.models.memory import needed_bytes
from headrace.models.shape_of_ctranslate2 import shape_of_stored
from headrace.models.store import ModelStore, StoredModel
from tests.models.resident import BATCH, CONTEXT, PROMPT, measure_resident
from tests.prove.answers import real_model
from tests.worker.random_model import MODELS, install_random_model

LANES = (1, 2)


async def plan(folder: Path) -> Mapping[str, float]:
    """SmolLM2 in two number formats, and two models of random weights; the error in percent of what was measured."""
    return await asyncio.to_thread(_compare, folder)


def _compare(folder: Path) -> Mapping[str, float]:
    store = ModelStore(folder)
    smollm2 = real_model()
    tried = [
        ("smollm2_int8", smollm2, "int8"),
        ("smollm2_float32", smollm2, "float32"),
        ("small_int8", install_random_model(store, "small", MODELS["small"]), "int8"),
        ("larger_int8", install_random_model(store, "larger", MODELS["larger"]), "int8"),
    ]
    errors = {f"{name}_{lanes}": _error(model, kind, lanes) for name, model, kind in tried for lanes in LANES}
    return {"worst": max(map(abs, errors.values())), **errors}


def _error(model: StoredModel, compute_type: str, lanes: int) -> float:
    measured = measure_resident(model.path.parent, model.name, compute_type, lanes).model
    need = needed_bytes(shape_of_stored(model), compute_type, lanes, BATCH, CONTEXT, prompt=PROMPT)
    print(
        f"  {model.name} {compute_type}, {lanes} lanes: measured {measured / 1e6:.0f} MB,"
        f" estimated {need.total / 1e6:.0f} MB",
        flush=True,
    )
    return 100 * (need.total / measured - 1)
